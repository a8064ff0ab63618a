"""`nertune export`: a run for other tools. Like assemble.py it sees several rooms, and wires them together.

export/
├── folders.py       folders that are there whole or not at all
├── merged.py        the base model with the adapter merged, compared with the adapter
├── llamafactory.py  data, dataset_info.json and the YAML that trains the same in LLaMA-Factory
├── gguf.py          one GGUF file, by llama.cpp's own converter
└── push.py          to Hugging Face or ModelScope, by their own clients
"""

from nertune.export.gguf import export_gguf
from nertune.export.llamafactory import export_llamafactory
from nertune.export.merged import Comparison, export_merged
from nertune.export.push import files_to_push, push

__all__ = ["Comparison", "export_gguf", "export_llamafactory", "export_merged", "files_to_push", "push"]
