"""One way of extraction as a process of its own: benchmarks/extract.py starts it. The last line printed is JSON.

python benchmarks/extract_run.py tutorial|batched|nertune|vllm RUN FILE --sentences 64
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from vllm_peer import PYTHON, VllmServer

from nertune import assemble, data
from nertune.evaluate import evaluate
from nertune.extract import ground
from nertune.models import load_tokenizer, resolve_model
from nertune.prompt import Renderer
from nertune.run import RunManifest
from nertune.schema import Document, Prediction

_BATCH = 16  # rows of transformers' own batched generation
_WARM = 8  # texts read before the clock starts: kernels, prompt prefix, grammar tables
_MOST = 512  # new tokens, as the tutorials have it

Predict = Callable[[Sequence[str]], list[Prediction]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=["tutorial", "batched", "nertune", "vllm"])
    parser.add_argument("run", type=Path)
    parser.add_argument("data")
    parser.add_argument("--sentences", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=None, help="of nertune")
    parser.add_argument("--vllm", type=Path, default=PYTHON, help="the Python that has vLLM")
    options = parser.parse_args()
    documents = data.read(options.data, limit=options.sentences).documents
    if options.way == "vllm":
        with VllmServer(options.run, python=options.vllm, minutes=15) as server:
            recognizer = assemble.connect(f"{server.url}#ner", run=options.run, concurrency=64, timeout=1200)
            result = _timed(recognizer.extract_many, documents)
    elif options.way == "nertune":
        size = {} if options.batch_size is None else {"batch_size": options.batch_size}
        result = _timed(assemble.load(options.run, **size).extract_many, documents)
    else:
        result = _timed(_transformers(options.run, rows=_BATCH if options.way == "batched" else 1), documents)
    print(json.dumps(result))


def _timed(predict: Predict, documents: Sequence[Document]) -> dict[str, Any]:
    texts = [document.text for document in documents]
    predict(texts[:_WARM])
    started = time.monotonic()
    predictions = predict(texts)
    seconds = time.monotonic() - started
    found = evaluate(documents, predictions)
    return {
        "sentences_per_second": len(texts) / seconds,
        "f1": {measure: found.metrics[measure].micro.f1 for measure in ("text", "span")},
        "ungrounded": found.ungrounded,
        "invalid": found.invalid_answers,
        "truncated": found.truncated,
    }


def _transformers(run: Path, *, rows: int) -> Predict:
    """transformers' `generate` with PEFT's adapter: a sentence at a time as the tutorials do, or left-padded batches."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    manifest = RunManifest.read(run)
    tokenizer = load_tokenizer(manifest.base_model)
    renderer = Renderer(tokenizer, manifest.prompt_of(None))
    base = AutoModelForCausalLM.from_pretrained(resolve_model(manifest.base_model), dtype=torch.float32)
    model: Any = PeftModel.from_pretrained(base, str(run)).eval()

    def predict(texts: Sequence[str]) -> list[Prediction]:
        predictions = []
        for start in range(0, len(texts), rows):
            part = texts[start : start + rows]
            prompts = [renderer.prompt_ids(text) for text in part]
            longest = max(map(len, prompts))
            gaps = [longest - len(ids) for ids in prompts]
            out = model.generate(
                input_ids=torch.tensor([[0] * gap + ids for gap, ids in zip(gaps, prompts, strict=True)]),
                attention_mask=torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps]),
                max_new_tokens=_MOST,
                do_sample=False,
                eos_token_id=sorted(renderer.stop_ids),
                pad_token_id=0,
            )
            for text, ids in zip(part, out[:, longest:].tolist(), strict=True):
                cut = not renderer.stop_ids.intersection(ids)
                answer = renderer.parse(ids, cut=cut)
                entities, ungrounded = ground(text, answer, renderer.spec.labels)
                stop = "length" if cut else "end"
                predictions.append(Prediction(text, entities, ungrounded, stop=stop, outcome=answer.outcome))
        return predictions

    return predict


if __name__ == "__main__":
    main()
