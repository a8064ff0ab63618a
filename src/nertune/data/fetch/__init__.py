"""Public corpora from their hubs, by the hubs' own clients: only data files, checked, and recorded beside them.

fetch/
├── catalogue.py     which corpora have a name, and where each of them is
├── fetching.py      the whole way: look, check what is there, download, check what came, put it in place
├── files.py         which files of a repository are data, what may be put where, and checksums
├── manifest.py      fetched.json: what was fetched, from where, at which revision
├── hubs.py          what a hub must be able to do
├── huggingface.py   Hugging Face, by huggingface_hub
└── modelscope.py    ModelScope, by modelscope (an extra)

Code of a repository is never run, and never downloaded: a loading script is no data file.
"""

from nertune.data.fetch.catalogue import CORPORA, PublicCorpus, Source, named
from nertune.data.fetch.fetching import Fetched, fetch, listed
from nertune.data.fetch.manifest import FetchedFile, FetchManifest

__all__ = [
    "CORPORA",
    "FetchManifest",
    "Fetched",
    "FetchedFile",
    "PublicCorpus",
    "Source",
    "fetch",
    "listed",
    "named",
]
