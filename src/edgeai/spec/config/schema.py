"""Configuration of every `edgeai spec` verb. Imports no torch: `--help` and `config schema` stay fast."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config, with_changes
from edgeai.core.config.problems import nearest
from edgeai.core.errors import UsageError

DType = Literal["auto", "float32", "bfloat16", "float16"]
HeadFormat = Literal["sglang", "vllm", "speculators", "eagle"]


class TargetConfig(Config):
    """The frozen language model whose output must not change."""

    model: str = "smollm2-135m-instruct"
    """Asset name, local folder, GGUF file or Hugging Face id of a Llama, Mistral, Qwen2 or Qwen3 causal LM."""
    dtype: DType = "auto"
    """Number format of the target; auto takes bfloat16 where this machine multiplies it faster than float32."""


class NoDraft(Config):
    """Plain decoding."""

    kind: Literal["none"] = "none"


class NgramDraft(Config):
    """Prompt lookup: propose what followed the last tokens earlier in the context. Needs no training."""

    kind: Literal["ngram"] = "ngram"
    max_ngram: int = Field(3, ge=1)
    """Longest suffix that is looked up, in tokens."""
    min_ngram: int = Field(1, ge=1)
    """Shortest suffix that is looked up, in tokens."""


class Eagle3Draft(Config):
    """A trained EAGLE-3 head."""

    kind: Literal["eagle3"] = "eagle3"
    path: Path | None = None
    """Checkpoint folder, run directory of `spec train`, or a head as SGLang, vLLM, speculators or EAGLE write it; empty
    takes the head shipped for the target."""


Draft = Annotated[NoDraft | NgramDraft | Eagle3Draft, Field(discriminator="kind")]


class TreeConfig(Config):
    """The EAGLE-2 dynamic draft tree. Counts exclude the root, which the target has already produced."""

    nodes: int = Field(7, ge=1, le=512)
    """Draft nodes kept after re-ranking (EAGLE's `total_token` minus one)."""
    depth: int = Field(3, ge=1, le=32)
    """Draft levels below the root (EAGLE's `depth` plus one)."""
    top_k: int = Field(4, ge=1, le=64)
    """Children drawn per node and frontier nodes kept per level."""


class SamplingConfig(Config):
    """How the target's distribution is warped before sampling; temperature 0 is greedy."""

    temperature: float = Field(0.0, ge=0.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    """Keep the smallest set of tokens with at least this probability mass."""
    top_k: int = Field(0, ge=0)
    """Keep this many most likely tokens; 0 keeps all."""
    min_p: float = Field(0.0, ge=0.0, le=1.0)
    """Drop tokens less likely than this share of the most likely one."""
    seed: int = 0
    """Seed of the request's own generator."""


class GenerateConfig(Config):
    """`edgeai spec generate`: answer prompts, plainly or speculatively."""

    verb: Literal["spec generate"] = "spec generate"
    target: TargetConfig = TargetConfig()
    draft: Draft = Eagle3Draft()
    tree: TreeConfig | Literal["auto"] = "auto"
    """Tree shape, or auto: the fastest predicted from timings of this machine and the head's acceptance."""
    sampling: SamplingConfig = SamplingConfig()
    max_tokens: int = Field(256, ge=1)
    """Most tokens generated for one prompt."""
    context: int = Field(2048, ge=8)
    """Largest prompt plus answer, in tokens; never more than the model allows."""


class BenchConfig(Config):
    """`edgeai spec bench`: plain against speculative decoding, same engine, dtype and prompts, interleaved."""

    verb: Literal["spec bench"] = "spec bench"
    target: TargetConfig = TargetConfig()
    draft: Draft = Eagle3Draft()
    tree: TreeConfig | Literal["auto"] = "auto"
    """Tree shape, or auto: the fastest predicted from timings of this machine and the head's acceptance."""
    sampling: SamplingConfig = SamplingConfig()
    prompts: str = ""
    """Prompt file (JSONL in MT-Bench, GSM8K or ShareGPT format, or text lines); empty takes built-in prompts."""
    max_prompts: int = Field(16, ge=1)
    """Prompts used, evenly spaced over the file."""
    max_turns: int = Field(1, ge=1)
    """User turns answered per conversation."""
    max_tokens: int = Field(128, ge=1)
    context: int = Field(2048, ge=8)
    repeats: int = Field(3, ge=1)
    """Interleaved plain/speculative repetitions of the whole prompt set."""
    peers: bool = False
    """Also run transformers' generate and prompt lookup on the same prompts; greedy only."""
    peers_assistant: str = ""
    """With peers: a smaller model of the same tokenizer for transformers' assisted generation; empty leaves it out."""


class DiagnoseConfig(Config):
    """`edgeai spec diagnose`: what a head's draft trees do beside its greedy path."""

    verb: Literal["spec diagnose"] = "spec diagnose"
    target: TargetConfig = TargetConfig()
    draft: Eagle3Draft = Eagle3Draft()
    tree: TreeConfig = TreeConfig()
    """Tree of every cycle; the greedy path is as deep."""
    sampling: SamplingConfig = SamplingConfig()
    prompts: str = ""
    """Prompt file (JSONL in MT-Bench, GSM8K or ShareGPT format, or text lines); empty takes built-in prompts."""
    max_prompts: int = Field(16, ge=1)
    """Prompts used, evenly spaced over the file; their first turns are answered."""
    max_tokens: int = Field(128, ge=1)
    context: int = Field(2048, ge=8)


class ExportConfig(Config):
    """`edgeai spec export`: write a head for another server, and check that it says there what it says here."""

    verb: Literal["spec export"] = "spec export"
    head: Path
    """Run directory of `spec train`, checkpoint folder, or name of a shipped head."""
    format: HeadFormat
    """sglang: SGLang, SpecForge; vllm: vLLM, plain; speculators: vLLM with its target named; eagle: the EAGLE code."""
    target: TargetConfig | None = None
    """The head's target; empty takes the one its run or file names."""
    verifier: str = ""
    """Path or id by which the server finds the target; empty takes target.model."""


class ImportConfig(Config):
    """`edgeai spec import`: turn a published head into one of edgeai's."""

    verb: Literal["spec import"] = "spec import"
    head: Path
    """Folder with config.json and model.safetensors (or pytorch_model.bin) of an EAGLE-3 head."""
    target: TargetConfig | None = None
    """The head's target; empty takes the one the file names."""


class ServeConfig(Config):
    """`edgeai spec serve`: an OpenAI-compatible server that speculates."""

    verb: Literal["spec serve"] = "spec serve"
    target: TargetConfig = TargetConfig()
    draft: Draft = Eagle3Draft()
    tree: TreeConfig | Literal["auto"] = "auto"
    """Tree shape, or auto: chosen anew for every batch, from timings of this machine and running acceptance."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 lets other machines in, and then an API key is wise."""
    port: int = Field(8000, ge=0, le=65535)
    """0 takes any free one."""
    name: str = ""
    """Model name that clients use; empty takes the target's."""
    slots: int = Field(16, ge=1, le=256)
    """Requests worked on at once; fewer where kv_budget_mib holds no more."""
    context: int = Field(2048, ge=8)
    """Largest prompt plus answer, in tokens; never more than the model allows."""
    kv_budget_mib: float = Field(2048.0, gt=0.0)
    """Memory for keys and values, reserved at the start and never exceeded."""
    queue: int = Field(64, ge=0)
    """Requests that may wait for a slot; more are told to try again (429)."""
    prompt_chunk: int = Field(256, ge=1)
    """Prompt tokens read in one cycle at most, so that a long prompt does not halt the others."""
    max_body_bytes: int = Field(1 << 20, ge=1024)
    """Largest request."""
    drain_s: float = Field(30.0, ge=0.0)
    """After SIGTERM or Ctrl-C, requests have this long to finish."""
    log_prompts: bool = False
    """Write every request into the run's log.txt."""


class ChatConfig(Config):
    """`edgeai spec chat`: talk to a model in the terminal, in this process or at a running server."""

    verb: Literal["spec chat"] = "spec chat"
    url: str = ""
    """A server of `spec serve`, such as http://127.0.0.1:8000; empty loads the model here."""
    target: TargetConfig = TargetConfig()
    draft: Draft = Eagle3Draft()
    tree: TreeConfig | Literal["auto"] = "auto"
    """As for `spec serve`."""
    sampling: SamplingConfig = SamplingConfig(temperature=0.7, top_p=0.95)
    system: str = ""
    """System message; empty leaves the chat template's own."""
    max_tokens: int = Field(512, ge=1)
    """Most tokens of an answer."""
    context: int = Field(2048, ge=8)
    """Largest conversation in tokens."""


class LoadConfig(Config):
    """`edgeai spec load`: many clients at one server on this machine, with and without speculation."""

    verb: Literal["spec load"] = "spec load"
    serve: ServeConfig = ServeConfig(port=0)
    """The server, started for this and ended after it."""
    clients: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 4, 16), min_length=1)
    """Clients at once, in turn."""
    requests: int = Field(24, ge=1)
    """Requests of each round, shared by its clients; at least two for each."""
    prompts: str = ""
    """Prompt file; empty takes built-in prompts."""
    max_prompts: int = Field(12, ge=1)
    """Different prompts."""
    max_tokens: int = Field(64, ge=2)
    """Most tokens of an answer."""
    memory_requests: int = Field(500, ge=0)
    """Short requests at the end, over which the server's memory must stay flat."""


class HeadConfig(Config):
    """Shape of the EAGLE-3 draft head (reference: EAGLE-3, arXiv 2503.01840; switches of EAGLE-3.1)."""

    aux_layers: tuple[int, int, int] | None = None
    """Target features are the states entering these decoder layers; empty means 2, n/2, n-3."""
    draft_vocab: int = Field(8192, ge=2)
    """Draft vocabulary: the most frequent assistant tokens of the training data."""
    intermediate_size: int | None = None
    """Width of the head's MLP; empty takes the target's."""
    fc_norm: bool = True
    """EAGLE-3.1: normalise each target feature before the projection."""
    norm_output: bool = True
    """EAGLE-3.1: feed the normalised output back as the next step's feature."""


class DataConfig(Config):
    """Where training text comes from. The target always writes the answers itself."""

    prompts: tuple[str, ...] = ()
    """Prompt files: JSONL in MT-Bench, GSM8K or ShareGPT format, or plain text lines."""
    max_prompts: int | None = None
    """Prompts taken from each file; empty takes all."""
    self_prompt: int = Field(0, ge=0)
    """Prompts the target writes itself from an open user turn of its chat template."""
    temperatures: tuple[float, ...] = (0.0, 1.0)
    """Sampling temperatures of the answers, used in turn."""
    max_answer_tokens: int = Field(256, ge=1)
    """Answers are cut after this many tokens."""
    max_len: int = Field(512, ge=16)
    """Longest conversation in tokens; turns whose answer might not fit are left out."""
    batch: int = Field(64, ge=1)
    """Sequences decoded together while the target writes answers."""
    val_frac: float = Field(0.03, gt=0.0, lt=0.5)
    """Share of conversations held back for validation."""
    answers: Path | None = None
    """JSONL (or .jsonl.gz) of answers written by an earlier run, used instead of regenerating."""
    features: Literal["cached", "online"] = "cached"
    """Keep target features on disk (one target pass in all) or recompute them in each epoch."""
    features_dir: Path | None = None
    """Folder of cached features that runs on the same answers share; empty means the run's own."""

    @model_validator(mode="after")
    def _has_source(self) -> DataConfig:
        if not (self.prompts or self.self_prompt or self.answers):
            raise ValueError("no training data: set data.prompts, data.self_prompt or data.answers")
        return self


class LossConfig(Config):
    """Training-time-test loss over several draft steps (EAGLE-3 section 3.1)."""

    kind: Literal["soft_ce", "lk"] = "soft_ce"
    """soft_ce: cross-entropy to the target distribution; lk: likelihood-of-acceptance loss (arXiv 2602.23881)."""
    lk_decay: float = Field(3.0, ge=0.0)
    """LK: weight of the KL term is exp(-decay * acceptance), of the total-variation term the rest."""
    ttt_steps: int = Field(4, ge=1, le=16)
    """Draft steps unrolled at the end of training."""
    ttt_ramp_frac: float = Field(0.5, ge=0.0, le=1.0)
    """Share of training over which the number of unrolled steps grows from one to ttt_steps."""
    step_decay: float = Field(0.8, gt=0.0, le=1.0)
    """Weight of draft step i is step_decay ** i."""


class OptimConfig(Config):
    """Linear warm-up, then cosine decay."""

    kind: Literal["adamw", "muon"] = "adamw"
    """muon: orthogonalised momentum for the head's inner matrices, AdamW for the rest; learns faster from little."""
    lr: float = Field(1e-3, gt=0.0)
    min_lr_frac: float = Field(0.05, ge=0.0, le=1.0)
    """Final learning rate as a share of lr."""
    warmup_frac: float = Field(0.05, ge=0.0, lt=1.0)
    beta1: float = Field(0.9, ge=0.0, lt=1.0)
    beta2: float = Field(0.95, ge=0.0, lt=1.0)
    weight_decay: float = Field(0.0, ge=0.0)
    clip_norm: float = Field(0.5, gt=0.0)
    batch_tokens: int = Field(4096, ge=16)
    """Tokens (prompt and answer) per micro-batch."""
    grad_accum: int = Field(1, ge=1)
    """Micro-batches per optimiser step, over all processes."""
    autocast: bool = True
    """Run matrix products in bfloat16 where that is faster; weights and optimiser stay float32."""


class GtoConfig(Config):
    """Group Tree Optimization (arXiv 2509.22134): train on the reward of whole draft trees, built as in decoding.

    Defaults are the paper's. Its text leaves open, and we chose: epsilon, delta, flat_std, temperature and starts; the
    accepted path whose probability is raised is the one the target's own first choices walk along the tree.
    """

    groups: int = Field(16, ge=1)
    """Groups of adjacent places drawn in a conversation; fewer where the answers are short. A budget knob."""
    text_frac: float = Field(1.0, gt=0.0, le=1.0)
    """Share of the conversations in which groups are drawn; the others give their token loss alone and cost no pass of
    the target. The other budget knob (ours)."""
    group_size: int = Field(8, ge=2)
    """Adjacent places whose rewards are standardised together."""
    tree: TreeConfig = TreeConfig(nodes=59, depth=8, top_k=10)
    """Tree drafted at each place. The paper's is EAGLE's standard tree; best is the one that decoding will use."""
    reward: Literal["lse", "exact", "max", "mean"] = "lse"
    """lse: smooth maximum over branches, the paper's; max, mean: of branches; exact: expected accepted draft tokens."""
    eta: float = Field(1.0, gt=0.0)
    """Sharpness of lse."""
    temperature: float = Field(1.0, gt=0.0)
    """Temperature of the target's probabilities in the reward (ours)."""
    omega: float = Field(0.5, ge=0.0)
    """Weight of the tree loss beside the token loss."""
    epsilon: float = Field(0.2, gt=0.0, lt=1.0)
    """The per-token probability ratio to the reference head counts between 1 - epsilon and 1 + epsilon (ours)."""
    delta: float = Field(1e-2, gt=0.0)
    """Added to a group's standard deviation, so that tiny differences are not blown up to full size (ours)."""
    flat_std: float = Field(1e-3, ge=0.0)
    """Groups whose debiased rewards spread no more than this are skipped (ours)."""
    starts: Literal["fresh", "fixed"] = "fresh"
    """fresh: other groups in each epoch; fixed: the same ones, whose reference trees are then drafted and scored once
    and kept in memory (ours)."""
    epochs: int = Field(1, ge=1)
    """Epochs of this phase."""
    lr: float = Field(1e-4, gt=0.0)
    """Learning rate of this phase; the rest of `optim` holds here too. The paper's is a tenth of its token phase's."""


class TrainConfig(Config):
    """`edgeai spec train`: train an EAGLE-3 draft head for a frozen target."""

    verb: Literal["spec train"] = "spec train"
    phase: Literal["tokens", "gto", "both"] = "tokens"
    """tokens: token by token (EAGLE-3); gto: whole trees (GTO), from the head init_from; both: one after the other."""
    target: TargetConfig = TargetConfig()
    head: HeadConfig = HeadConfig()
    data: DataConfig = DataConfig(self_prompt=512)
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    gto: GtoConfig = GtoConfig()
    epochs: int = Field(3, ge=1)
    """Epochs of the token phase."""
    max_steps: int | None = Field(None, ge=1)
    """Optimiser steps of a phase at most; its learning rate then decays over these."""
    init_from: Path | None = None
    """Head whose weights training starts from: a checkpoint folder, a run directory, or the name of a shipped head."""
    val_every: int = Field(100, ge=1)
    """Optimiser steps between validations (and checkpoints)."""
    val_tree: TreeConfig = TreeConfig(nodes=5, depth=3, top_k=4)
    """Tree whose accept_len is measured on validation text; the best head is the one where it is highest. The default
    is the tree that SmolLM2 decodes with on two CPU cores."""
    seed: int = 0

    @model_validator(mode="after")
    def _gto_has_a_head(self) -> TrainConfig:
        if self.phase == "gto" and self.init_from is None:
            raise ValueError("phase gto improves a trained head: set init_from, or phase: both to train one first")
        return self


class Variant(Config):
    """One of the things that are compared: a head that exists, or changes to the common training."""

    head: Path | None = None
    """Checkpoint folder, run directory or shipped name of a head to measure; nothing is trained for it."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Keys of `train` with other values, such as gto.lr: 2.0e-4; empty is the common training as it is."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Variant:
        if self.head and self.set:
            raise ValueError("a variant is a given head or a training, not both: leave out head or set")
        return self


class CompareConfig(Config):
    """`edgeai spec compare`: train variants with several seeds, and measure all heads on the same texts."""

    verb: Literal["spec compare"] = "spec compare"
    train: TrainConfig = TrainConfig()
    """What all variants have in common; its seed is replaced by each of `seeds`."""
    variants: dict[str, Variant] = Field(default_factory=dict)
    """Name of each variant, also of its run directories, and what it is."""
    runs: tuple[Path, ...] = ()
    """Heads that exist, measured as well; run directories whose configs differ only in the seed are one variant."""
    baseline: str | None = None
    """Variant that the others are compared with; empty takes the first."""
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    trees: tuple[TreeConfig, ...] = Field(
        (TreeConfig(nodes=5, depth=3, top_k=4), TreeConfig(nodes=59, depth=7, top_k=8)), min_length=1
    )
    """Trees whose accept_len is measured; the first is the one that decoding uses."""
    temperatures: tuple[Annotated[float, Field(ge=0.0)], ...] = Field((0.0, 1.0), min_length=1)
    prompts: dict[str, str] = Field(default_factory=dict)
    """Name and prompt file of each benchmark; empty takes the built-in prompts."""
    max_prompts: int = Field(40, ge=1)
    """Prompts used of each benchmark, evenly spaced over the file; their first turns are answered."""
    max_tokens: int = Field(128, ge=1)
    """Most tokens of an answer."""
    samples: int = Field(1, ge=1)
    """Answers to each prompt at temperatures above 0."""

    @model_validator(mode="after")
    def _variants_are_sound(self) -> CompareConfig:
        if not (self.variants or self.runs):
            raise ValueError("nothing to compare: set variants, or give run directories")
        problems = [
            f"variants.{name}: a name is made of letters, digits, . _ -" for name in self.variants if not _is_name(name)
        ]
        for name, variant in self.variants.items():
            for seed in self.seeds[: None if variant.head is None else 0]:
                try:
                    self.training_of(name, seed)
                except UsageError as error:
                    problems += [f"variants.{name}.set: {line}" for line in error.message.splitlines()]
                    break
        if self.baseline is not None and not self.runs and self.baseline not in self.variants:
            near = nearest(self.baseline, self.variants)
            problems.append(f'baseline: no variant "{self.baseline}"' + (f'; did you mean "{near}"?' if near else ""))
        if problems:
            raise ValueError("\n  ".join(problems))
        return self

    def training_of(self, name: str, seed: int) -> TrainConfig:
        """The config that trains a variant with a seed.

        Raises:
            UsageError: With every problem of the variant.
        """
        return with_changes(self.train, {**_dotted(self.variants[name].set), "seed": seed})


def _dotted(changes: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Groups of changes key by key: what a group does not name stays as it is."""
    flat: dict[str, Any] = {}
    for key, value in changes.items():
        flat |= _dotted(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return flat


def _is_name(text: str) -> bool:
    """Whether a text can be part of a folder's name on every system."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", text) is not None
