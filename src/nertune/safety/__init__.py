"""The door through which every adapter and every local model folder goes before a library reads it.

safety/
├── files.py     which file of a folder may be read: regular, inside the folder, of sane size; JSON within limits
├── headers.py   the header of a safetensors file, read by hand
├── configs.py   adapter_config.json and config.json: types, sizes, and nothing that makes a library run code
└── folders.py   a whole folder: an adapter, a model, a tokenizer

Weights come from safetensors alone: other formats are pickles, which can run code when they are read. Code that a folder
brings with it is never run, unless the user said so on the command line (`--trust-remote-code`). What is refused is refused
with one RunError that names the file. No check is an assert, which `python -O` would leave out.
"""

from nertune.safety.configs import AdapterConfig, read_adapter_config
from nertune.safety.files import check_format, read_json
from nertune.safety.folders import check_adapter, check_model, check_tokenizer, weight_files
from nertune.safety.headers import Tensor, read_header
from nertune.safety.trust import remote_code_trusted, trust_remote_code

__all__ = [
    "AdapterConfig",
    "Tensor",
    "check_adapter",
    "check_format",
    "check_model",
    "check_tokenizer",
    "read_adapter_config",
    "read_header",
    "read_json",
    "remote_code_trusted",
    "trust_remote_code",
    "weight_files",
]
