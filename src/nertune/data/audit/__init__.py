"""The audit: what is wrong with annotated files, where, and what to do, before anything is trained on them."""

from nertune.data.audit.audit import NEAR, Input, audit, in_memory, inputs
from nertune.data.audit.findings import Finding, Place
from nertune.data.audit.kinds import KINDS, Kind
from nertune.data.audit.lengths import Cutoff, RowLength, Setting
from nertune.data.audit.repair import Repair, repair
from nertune.data.audit.report import Audited, Report

__all__ = [
    "KINDS",
    "NEAR",
    "Audited",
    "Cutoff",
    "Finding",
    "Input",
    "Kind",
    "Place",
    "Repair",
    "Report",
    "RowLength",
    "Setting",
    "audit",
    "in_memory",
    "inputs",
    "repair",
]
