"""The functions of `from edgeai import spec`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgeai.core.config import Config, with_changes
from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.core.python_api.configs import Overrides, settle_config
from edgeai.core.python_api.library_run import library_run
from edgeai.core.python_api.missing import names_missing_packages
from edgeai.core.python_api.progress import CallbackListener, OnProgress
from edgeai.spec.config.bench import BenchConfig
from edgeai.spec.config.draft import Eagle3Draft, NgramDraft, NoDraft, TreeConfig
from edgeai.spec.config.generate import GenerateConfig
from edgeai.spec.config.target import DType, RuntimeChoice, TargetConfig
from edgeai.spec.config.train import TrainConfig

if TYPE_CHECKING:
    from edgeai.spec.decoding.generation import GenerateReport
    from edgeai.spec.draft.drafter import Drafter
    from edgeai.spec.evaluation.bench.report import BenchReport
    from edgeai.spec.target.protocol import Target
    from edgeai.spec.training.train_report import TrainReport


@names_missing_packages
def load_target(
    model: str | Path,
    *,
    dtype: DType = "auto",
    runtime: RuntimeChoice = "auto",
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> Target:
    """Load a frozen language model to decode with.

    Args:
        model: Asset name such as "smollm2-135m-instruct", model folder, .gguf file or Hugging Face id of a Llama,
            Mistral, Qwen2 or Qwen3 causal language model.
        dtype: Number format of the weights on torch; "auto" takes bfloat16 where it is faster than float32 on this
            machine.
        runtime: "native" to compute with the weights of a GGUF file as they are, on the CPU; "torch"; or "auto" for
            native where it can run the model and `dtype` is "auto", else torch.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        on_progress: Called while a model is downloaded or converted.

    Returns:
        The loaded target, to be passed to `load_head` and `generate`.

    Raises:
        UsageError: The model, the dtype or the device does not exist, or the native runtime cannot run the model here.
        EdgeAIError: The weights cannot be read, or the download failed.

    Examples:
        >>> from edgeai import spec
        >>> target = spec.load_target("smollm2-135m-instruct")
    """
    config = with_changes(TargetConfig(), {"model": str(model), "dtype": dtype, "runtime": runtime})
    from edgeai.core.device import choose_device
    from edgeai.spec.target.build import build_target

    metrics = Metrics(None, listener=CallbackListener(on_progress))
    return build_target(config, device=choose_device(device).torch_device, metrics=metrics)


@names_missing_packages
def load_head(path: str | Path, target: Target) -> Drafter:
    """Load a draft head for a target.

    Args:
        path: Run directory of `train`, checkpoint folder, name of a shipped head, or a folder written for SGLang,
            vLLM, speculators or the EAGLE repository.
        target: The model the head was trained for.

    Returns:
        An EAGLE-3 drafter with this head, for the argument `draft` of `generate`.

    Raises:
        UsageError: There is no readable head in `path`, or it was trained for another target.

    Examples:
        >>> head = spec.load_head("runs/head", target)
        >>> report = spec.generate(target, "Why is the sky blue?", draft=head)
    """
    from edgeai.spec.draft.build import build_drafter

    metrics = Metrics(None, listener=CallbackListener(None))
    drafter = build_drafter(Eagle3Draft(path=Path(path)), target, metrics)
    assert drafter is not None
    return drafter


@names_missing_packages
def generate(
    target: Target,
    prompts: str | Sequence[str],
    *,
    draft: Drafter | Eagle3Draft | NgramDraft | NoDraft | Literal["eagle3", "ngram", "none"] = "eagle3",
    tree: TreeConfig | Literal["auto"] = "auto",
    max_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
    seed: int = 0,
    context: int = 2048,
    system: str = "",
    json_schema: Mapping[str, Any] | None = None,
    on_text: Callable[[int, str], None] | None = None,
    on_progress: OnProgress | None = None,
) -> GenerateReport:
    """Answer prompts with speculative decoding.

    The drafter changes the speed, not the answers. On the native runtime and in float32 they equal those of plain
    decoding token for token, sampled ones with the same seed; in lower precision greedy answers may differ where the
    target's two best tokens are tied within rounding, and sampled answers have the target's distribution.

    Args:
        target: Model loaded with `load_target`.
        prompts: One or more user turns; each is answered as a chat of its own.
        draft: Drafter from `load_head`, a draft config, or a kind: "eagle3" takes the head shipped for the target,
            "ngram" prompt lookup, "none" plain decoding.
        tree: Shape of the draft tree; "auto" takes the fastest one predicted from timings of this machine, or plain
            decoding where no tree is faster.
        max_tokens: Maximum number of tokens per answer.
        temperature: Sampling temperature; 0 is greedy.
        top_p: Probability mass of the tokens that may be sampled, most likely first.
        top_k: Number of most likely tokens that may be sampled; 0 allows all.
        min_p: Minimum probability of a sampled token, relative to the most likely one.
        seed: Seed of the sampling; each prompt starts from it.
        context: Maximum number of tokens of a prompt and its answer together.
        system: System prompt of every chat; empty keeps the default of the chat template.
        json_schema: JSON schema that every answer follows; None for free text. Needs the extra `structured`.
        on_text: Called with the index of the prompt and each new piece of its answer.
        on_progress: Called with the number of answered prompts.

    Returns:
        Answers in the order of the prompts, with their token ids, acceptance counts and timings.

    Raises:
        UsageError: There is no prompt or an empty one, a prompt exceeds the context, a value is out of range, no
            head is shipped for the target, or the JSON schema cannot be compiled.

    Examples:
        >>> from edgeai import spec
        >>> target = spec.load_target("smollm2-135m-instruct")
        >>> report = spec.generate(target, ["Why is the sky blue?"], max_tokens=64)
        >>> print(report.answers[0].text)
        >>> print(f"{report.accept_len:.2f} tokens per target pass, {report.tokens_per_s:.0f} tokens/s")
    """
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not texts:
        raise UsageError("no prompt given", hint='give at least one, such as ["Why is the sky blue?"]')
    for number, text in enumerate(texts):
        if not text.strip():
            raise UsageError(f"prompt {number} is empty", hint="leave it out, or give some text")
    cfg = with_changes(
        GenerateConfig(),
        {
            "draft": draft if isinstance(draft, Config) else {"kind": draft if isinstance(draft, str) else "none"},
            "tree": tree,
            "max_tokens": max_tokens,
            "context": context,
            "system": system,
            "sampling": {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p, "seed": seed},
        },
    )
    from edgeai.spec.decoding.generate import answer_prompts
    from edgeai.spec.draft.build import build_drafter

    metrics = Metrics(None, listener=CallbackListener(on_progress))
    drafter = build_drafter(cfg.draft, target, metrics) if isinstance(draft, str | Config) else draft
    schema = None if json_schema is None else json.dumps(json_schema)
    return answer_prompts(cfg, target, drafter, texts, metrics=metrics, on_text=on_text, json_schema=schema)


@names_missing_packages
def train(
    config: TrainConfig | str | Path | None = None,
    *,
    out: str | Path,
    overrides: Overrides | None = None,
    resume: bool = False,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> TrainReport:
    """Train an EAGLE-3 draft head for a frozen target, in this process.

    Args:
        config: Config object, shipped name such as "spec/smollm2-quick", YAML file, or None for the defaults.
        out: Run directory; the best head is in its subfolder "best".
        overrides: Config keys to change, such as {"target.model": "my-model", "epochs": 1}.
        resume: Continue the interrupted run in `out` with its own config.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        on_progress: Called while answers are written, features are computed and the head is trained.

    Returns:
        Folder of the best head, its accept_len on validation text, and the costs of the training.

    Raises:
        UsageError: The config, the target, the training text or `out` cannot be used.
        EdgeAIError: The loss became NaN or infinite, or the disk is full.

    Examples:
        >>> report = spec.train("spec/smollm2-quick", out="runs/head")
        >>> head = spec.load_head(report.head, target)
    """
    cfg = settle_config(TrainConfig, config, overrides, resume=resume, out=out)
    from edgeai.spec.training.train import run_train

    with library_run(
        cfg, call="edgeai.spec.train", out=out, device=device, on_progress=on_progress, resume=resume
    ) as run:
        report = run_train(cfg, run, resume=resume)
        run.finish("done", report.to_json())
    return report


@names_missing_packages
def bench(
    config: BenchConfig | str | Path | None = None,
    *,
    overrides: Overrides | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> BenchReport:
    """Measure plain and speculative decoding side by side, and compare their outputs.

    Args:
        config: Config object, shipped name such as "spec/bench", YAML file, or None for the defaults.
        overrides: Config keys to change, such as {"draft.kind": "ngram", "max_prompts": 4}.
        out: Run directory; None uses a temporary one.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        on_progress: Called while prompts are decoded.

    Returns:
        Speeds with their spread, acceptance, and whether the outputs agree (`report.lossless`).

    Raises:
        UsageError: The config, the model, the head or the prompts cannot be used.
        EdgeAIError: All answers were empty, so that there is nothing to measure.

    Examples:
        >>> report = spec.bench("spec/bench", overrides={"draft.kind": "ngram"})
        >>> print(report.speedup)
    """
    cfg = settle_config(BenchConfig, config, overrides)
    from edgeai.spec.evaluation.bench.bench import run_bench

    with library_run(cfg, call="edgeai.spec.bench", out=out, device=device, on_progress=on_progress) as run:
        report = run_bench(cfg, run)
        is_ok = report.lossless is None or report.lossless.ok
        run.finish("done" if is_ok else "failed", report.to_json())
    return report
