"""LLaMA-Factory's keys about the method: which weights are trained, from where, and how the others are held."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["method_keys", "quantization"]


class Keys(Protocol):
    """One of their files while it is read: `given` holds the keys that it sets."""

    problems: list[str]
    notes: list[str]
    given: dict[str, Any]

    def get(self, key: str) -> Any:
        """What the file says, or their default."""
        ...


def method_keys(keys: Keys) -> dict[str, Any]:
    """Our keys `method`, `tokens` and, where an adapter is trained, `lora`."""
    method = keys.get("finetuning_type")
    if method == "full" and "adapter_name_or_path" in keys.given:
        keys.problems.append(
            "adapter_name_or_path: finetuning_type full trains no adapter; merge it into its model first"
        )
    mapped = {"method": method, "tokens": _tokens(keys)}
    return mapped if method == "full" else mapped | {"lora": _lora(keys)}


def quantization(keys: Keys) -> str | None:
    """ "4bit" where the file asks for bitsandbytes' 4-bit NormalFloat; other ways to quantize are refused."""
    bits = keys.given.get("quantization_bit")
    if bits is None:
        return None
    allowed: dict[str, tuple[Any, ...]] = {
        "quantization_bit": (4,),
        "quantization_method": ("bnb", "bitsandbytes"),
        "quantization_type": ("nf4",),
        "double_quantization": (True,),
    }
    for key, values in allowed.items():
        if keys.get(key) not in values:
            keys.problems.append(
                f"{key}: {keys.get(key)!r:.60} is refused: the base model is quantized to 4-bit NormalFloat by "
                f"bitsandbytes, with double quantization, or not at all; {key}: {values[0]}"
            )
    return "4bit"


def _lora(keys: Keys) -> dict[str, Any]:
    rank, targets = keys.get("lora_rank"), keys.get("lora_target")
    mapped = {
        "rank": rank,
        "alpha": keys.get("lora_alpha") or max(rank, 1) * 2,
        "targets": "all-linear" if targets in ("all", ["all"]) else targets,
        "rslora": keys.get("use_rslora"),
        "dora": keys.get("use_dora"),
    }
    if adapters := keys.given.get("adapter_name_or_path"):
        # What the file is silent about is the adapter's own.
        written = ("lora_rank", "lora_alpha", "lora_target", "use_rslora", "use_dora")
        mapped = {key: mapped[key] for key, theirs in zip(tuple(mapped), written, strict=True) if theirs in keys.given}
        mapped["from"] = adapters[0]
        if len(adapters) > 1:
            keys.problems.append(
                f"adapter_name_or_path: {len(adapters)} adapters; training goes on with one: merge the others"
            )
    return mapped | {"dropout": keys.get("lora_dropout"), "plus_ratio": keys.get("loraplus_lr_ratio")}


def _tokens(keys: Keys) -> list[str]:
    """The tokens that both keys add; what becomes of their embeddings is told."""
    tokens = [token for key in ("add_tokens", "add_special_tokens") for token in keys.given.get(key, ())]
    if tokens and keys.get("finetuning_type") != "full":
        keys.notes.append("tokens that are added: their own rows of the embeddings are trained; theirs trains them all")
    if "add_special_tokens" in keys.given:
        keys.notes.append("add_special_tokens: added as add_tokens does, so that an answer may hold them as text")
    for name in keys.given.get("additional_target", ()):
        if not tokens or name not in ("embed_tokens", "lm_head"):
            keys.problems.append(
                f"additional_target: {name} is refused: besides the adapter, rows of added tokens alone are trained, "
                "in embed_tokens and lm_head; set add_tokens, or leave it out"
            )
            break
    return tokens
