"""The corpora that have a name here, and where each of them is.

Every repository and every file named below was found on a page of its hub. A revision is there where a page of that very
revision was seen with the files in it. No checksum could be looked up, so none is pinned: what comes is compared with what the
hub itself says of each file, and a second fetch with the first.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from nertune.errors import InputError

__all__ = ["CORPORA", "HUBS", "PublicCorpus", "Source", "named"]

HUBS = ("huggingface", "modelscope")
_PAGES = {"huggingface": "https://huggingface.co/datasets/", "modelscope": "https://modelscope.cn/datasets/"}


@dataclass(frozen=True)
class Source:
    """One place where a corpus is.

    `files`: patterns as `fnmatch` has them, whose `*` goes over `/` too; empty takes every data file. `revision`: None is
    the hub's default branch. `sha256`: of a file, in hexadecimal, where it is known. `licence`: as the repository's page
    states it, None where it was not seen. `format`: of nertune's, None where it is not known.
    """

    hub: str
    repository: str
    files: tuple[str, ...] = ()
    revision: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    licence: str | None = None
    format: str | None = None

    @property
    def page(self) -> str:
        """Where to read about it."""
        return _PAGES[self.hub] + self.repository


@dataclass(frozen=True)
class PublicCorpus:
    """A corpus by name; the first of `sources` is taken where the user names no hub."""

    name: str
    about: str
    sources: tuple[Source, ...]
    language: str | None = None
    citation: str | None = None

    def source(self, hub: str | None) -> Source:
        """Its place on `hub`. Raises InputError where it is not known to be there."""
        if hub is None:
            return self.sources[0]
        for source in self.sources:
            if source.hub == hub:
                return source
        there = ", ".join(source.hub for source in self.sources)
        raise InputError(
            f"{self.name} is known on {there}, not on {hub}; if it is there under another name, say OWNER/NAME"
        )


_FEW_SHOT = ("qgyd2021/few_shot_ner_sft", "7fc0bc819a06f60c4076fac735bc276ed45d97e3")
_SFT = ("qgyd2021/chinese_ner_sft", "a89fba5d54c380354963985c44e0457622c44f9f")
_CONVERTED = "refs/convert/parquet"  # where Hugging Face keeps what its loading scripts would make


def _collected(file: str, collection: tuple[str, str] = _FEW_SHOT) -> Source:
    """One file of the collections that bring Chinese corpora into one format."""
    repository, revision = collection
    return Source("huggingface", repository, (f"data/{file}.jsonl",), revision, licence="apache-2.0", format="entities")


def _wikiann(language: str, name: str) -> PublicCorpus:
    source = Source(
        "huggingface", "unimelb-nlp/wikiann", (f"{language}/*.parquet",), _CONVERTED, licence="unknown", format="hf"
    )
    about = f"Wikipedia, {name}, labelled automatically: persons, places, organizations"
    citation = "Pan et al. 2017, https://aclanthology.org/P17-1178"
    return PublicCorpus(f"wikiann-{language}", about, (source,), language, citation)


def _multinerd(language: str, name: str) -> PublicCorpus:
    source = Source("huggingface", "Babelscape/multinerd", (f"*/*_{language}.jsonl",), licence="cc-by-nc-sa-4.0")
    about = f"Wikipedia and WikiNews, {name}, labelled automatically"
    citation = "Tedeschi and Navigli 2022, https://aclanthology.org/2022.findings-naacl.60"
    return PublicCorpus(f"multinerd-{language}", about, (source,), language, citation)


_TABLE = (
    PublicCorpus(
        "cluener",
        "CLUENER2020: news, ten fine labels",
        (_collected("cluener2020"),),
        "zh",
        "Xu et al. 2020, https://arxiv.org/abs/2001.04351",
    ),
    PublicCorpus(
        "cmeee",
        "CMeEE of CBLUE: medical texts, nested entities",
        (_collected("cmeee"),),
        "zh",
        "Zhang et al. 2021, https://arxiv.org/abs/2106.08087",
    ),
    PublicCorpus("ccfbdci", "CCF BDCI: robustness of Chinese NER", (_collected("ccfbdci"),), "zh"),
    PublicCorpus(
        "msra",
        "MSRA, SIGHAN 2006: news, persons, places, organizations",
        (_collected("msra"), Source("modelscope", "damo/msra_ner")),
        "zh",
        "Levow 2006, https://aclanthology.org/W06-0115",
    ),
    PublicCorpus(
        "weibo",
        "Weibo: short posts",
        (_collected("weibo", _SFT), Source("modelscope", "damo/weibo_ner")),
        "zh",
        "Peng and Dredze 2015, https://aclanthology.org/D15-1064",
    ),
    PublicCorpus(
        "resume",
        "résumés of executives",
        (Source("modelscope", "damo/resume_ner", ("train.txt", "dev.txt", "test.txt"), format="conll"),),
        "zh",
        "Zhang and Yang 2018, https://aclanthology.org/P18-1144",
    ),
    PublicCorpus("ccks2019", "CCKS 2019, task 1: medical records", (_collected("ccks2019_task1"),), "zh"),
    PublicCorpus("ecommerce", "products and brands", (_collected("ecommerce"),), "zh"),
    PublicCorpus(
        "conll2003",
        "CoNLL-2003: Reuters news, persons, places, organizations, the rest",
        (Source("huggingface", "eriktks/conll2003", ("*.parquet",), _CONVERTED, licence="other", format="hf"),),
        "en",
        "Tjong Kim Sang and De Meulder 2003, https://aclanthology.org/W03-0419",
    ),
    PublicCorpus(
        "few-nerd",
        "Few-NERD, supervised: Wikipedia, 66 fine labels",
        (
            Source(
                "huggingface",
                "DFKI-SLT/few-nerd",
                ("supervised/*.parquet",),
                _CONVERTED,
                licence="cc-by-sa-4.0",
                format="hf",
            ),
        ),
        "en",
        "Ding et al. 2021, https://aclanthology.org/2021.acl-long.248",
    ),
    _multinerd("en", "English"),
    _multinerd("zh", "Chinese"),
    _wikiann("en", "English"),
    _wikiann("zh", "Chinese"),
)
CORPORA: Mapping[str, PublicCorpus] = MappingProxyType({corpus.name: corpus for corpus in _TABLE})


def named(name: str, hub: str | None = None) -> PublicCorpus:
    """The corpus called `name`, or the data set OWNER/NAME of a hub, Hugging Face where none is given.

    Raises InputError for any other name, with the nearest there is.
    """
    if name in CORPORA:
        return CORPORA[name]
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII) and not any(part.startswith(".") for part in name.split("/")):
        return PublicCorpus(name.split("/")[1], name, (Source(hub or HUBS[0], name),))
    near = difflib.get_close_matches(name.lower(), CORPORA, n=1, cutoff=0.5)
    guess = f"; did you mean {near[0]!r}?" if near else "."
    raise InputError(
        f"there is no corpus {name!r}{guess} There are {', '.join(CORPORA)}, and every data set of a hub as OWNER/NAME"
    )
