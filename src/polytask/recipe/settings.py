"""What a recipe may say. The sentence under a field is its help.

Nothing here knows the members of the open rooms: a member is a name and its options, checked when it is built.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, model_validator

from polytask.registry import InRoom

FORMAT = 1
"""Version of the recipe and run-folder format."""


class Settings(BaseModel):
    """A table of a recipe."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _name_defaults(cls, tables: Any) -> Any:
        """Options without a name are those of the field's default member: ``head = { dropout = 0.5 }``."""
        if not isinstance(tables, dict):
            return tables
        named = {
            key: {"name": field.default.name, **tables[key]}
            for key, field in cls.model_fields.items()
            if isinstance(field.default, Member) and isinstance(tables.get(key), dict)
        }
        return tables | named


class Member(BaseModel):
    """A member of an open room: its name, and the options that are passed on to it as they stand."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Choice = Annotated[Member, BeforeValidator(_named)]
"""``"name"`` or ``{ name = "name", option = … }``."""

Factor = Annotated[float, Field(ge=0)]
"""A factor of a loss: 0 switches off what it stands before."""


class EncoderSettings(BaseModel):
    """The encoder that all tasks share, or that their own ones start as; further keys are its architecture's options."""

    model_config = ConfigDict(
        extra="allow", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    checkpoint: str | None = None
    """Pretrained weights: a folder, a hub id, or "minilm". Without one, a new encoder is drawn at random."""
    architecture: str = "bert"
    """See `polytask list encoders`: "bert" (our own), "lstm", "auto" (any transformers encoder)."""
    tokenizer: str | None = None
    """A folder, a hub id or "minilm" whose tokenizer a new encoder uses; else words of the training texts."""
    vocabulary: Annotated[int, Field(ge=6, le=100_000_000)] | None = None
    """Largest vocabulary of a tokenizer that is made from the training texts (30000)."""

    @property
    def name(self) -> str:
        return self.architecture

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class ProjectionSettings(Settings):
    """Layers of each text's own, between its pooling and what merges two texts (or the head)."""

    layers: Annotated[int, Field(gt=0, le=100)] = 3
    """Linear layers (at most 100), the activation between them."""
    hidden: PositiveInt | None = None
    """Width between the layers; the pooled vector's when not given."""
    width: PositiveInt | None = None
    """Width of the result; the pooled vector's when not given."""
    activation: Literal["relu", "gelu"] = "relu"
    """"relu" or "gelu"."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout before each layer."""


class ResampleSettings(Settings):
    """Evens out how often the classes of a task (or the bins of its range) come up in a pass of training."""

    name: Literal["over", "under"]
    """"over" brings rare classes up to the commonest, "under" cuts all down to the rarest; drawn anew each pass."""
    bins: PositiveInt | None = None
    """Bins of equal width that the range of a regression task is cut into (10)."""


Resample = Annotated[
    ResampleSettings, BeforeValidator(_named, json_schema_input_type=Literal["over", "under"] | ResampleSettings)
]
"""A table, or short for one."""


def _trees(value: Any) -> Any:
    return {"trees": value} if isinstance(value, str) else value


class PhraseSettings(Settings):
    """Labelled phrases of parse trees, as extra rows to learn from."""

    trees: str
    """A file with a tree on each line, ``(3 (2 It) (4 works))``, as the Stanford Sentiment Treebank comes."""
    min_words: PositiveInt = 1
    """Words of a phrase at least."""
    apart_from: list[str] = []
    """Further tables or files of trees whose sentences, and every run of words in them, stay out; dev's always do."""


PhrasesOf = Annotated[PhraseSettings, BeforeValidator(_trees, json_schema_input_type=str | PhraseSettings)]
"""A table, or short for one."""


class Symmetric(Settings):
    """A pair task whose answer must not depend on the order of the two texts."""

    consistency: Annotated[float, Field(ge=0)] = 1.0
    """Factor of the divergence between the two orders' predictions, which is added to the mean of their losses."""


class RowsFrom(Settings):
    """Rows that a task borrows from another task."""

    task: str
    """The task that the rows come from."""
    label: str | None = None
    """Only its rows with this label, as tables spell it or by its name."""
    splits: Annotated[list[Literal["train", "dev"]], Field(min_length=1)] = ["train"]
    """Its training rows (without those set apart for dev), its dev rows, or both."""
    each: bool = False
    """Each text of a pair as a row of its own, for `ranking` (`mlm` always reads them so)."""


def _rows_from(value: Any) -> Any:
    given = value if isinstance(value, list) else [value]
    return [{"task": rows} if isinstance(rows, str) else rows for rows in given]


Borrowed = Annotated[
    list[RowsFrom], BeforeValidator(_rows_from, json_schema_input_type=str | RowsFrom | list[str | RowsFrom])
]
"""``"task"``, ``{ task = "task", label = … }``, or a list of them."""


class TaskSettings(Settings):
    """One task: a table or two, what its columns mean, and how its labels are predicted."""

    preset: str | None = None
    """Defaults of a well-known task: see `polytask list presets`."""
    kind: Annotated[Choice | None, InRoom("kinds")] = None
    """What a label is: see `polytask list kinds`."""
    train: str | list[dict[str, Any]] | dict[str, str] | None = None
    """The training table: a file relative to the recipe's folder (or to `data`), a hub data set, or a file of one cell a
    line for each column: { text = "train_text.txt", label = "train_labels.txt" }."""
    dev: str | float | list[dict[str, Any]] | dict[str, str] | None = None
    """The dev table, or the share of train that is set apart for it: seeded, stratified, equal texts kept together."""
    rows_from: Borrowed | None = None
    """Other tasks whose rows this one learns from, instead of or beside `train`."""
    evaluate: bool | None = None
    """false makes it an auxiliary task: trained on, but not scored, in no aggregate, and needing no dev table. By
    default `mlm` and `ranking` are that unless they have a dev table."""
    metrics: Annotated[list[Choice] | None, Field(min_length=1), InRoom("metrics")] = None
    """What the task is scored by: see `polytask list metrics`; the kind's own when not given."""
    judged_by: str | None = None
    """The metric that chooses its best checkpoint and enters the aggregate; the first one when not given."""
    format: Literal["csv", "tsv", "jsonl", "json", "parquet", "xlsx", "label", "text"] | None = None
    """What the task's files are, where their suffixes do not say so."""
    delimiter: str | None = None
    """The character between two fields of a text file; found from its lines when not given."""
    quote: Literal['"', "'", "none"] | None = None
    """The character around a field, or "none": a quote is a letter; found from the lines when not given."""
    encoding: str | None = None
    """The encoding of a text file, as Python names it; UTF-8, or what a byte-order mark says, when not given."""
    header: bool | None = None
    """false: the first line is a row, and `columns` names the columns; true: it is a header, whatever `columns` says."""
    columns: Annotated[list[str], Field(min_length=1)] | None = None
    """The names of the columns of a table without a header."""
    missing: list[str] = Field(default=[], max_length=100)
    """Cells that stand for no value, such as ["nan", "-"]; an empty cell always does."""
    decimal: Literal[".", ","] = "."
    """What separates the decimals of a label that is a number."""
    text: str | list[str] | None = None
    """The text column, or two columns, which make it a pair task."""
    label: str | list[str] | None = None
    """The label column; of a multilabel task also a list of columns, each of which says 0 or 1 of the label it is
    called after."""
    id: str | None = None
    """The column that names a row in predictions; "id" where there is one, else the row's number."""
    labels: list[str] | dict[str, str] | None = None
    """The labels in their order, or a table from labels to the names that predictions show; else those of train."""
    sample: PositiveInt | None = None
    """Rows a pass, drawn anew each pass; all of them by default."""
    resample: Resample | None = None
    """Evens out the classes, or the bins of a range, of each pass: "over", "under" or { name = "over", bins = 10 }."""
    phrases: PhrasesOf | None = None
    """Extra rows to learn from: the phrases of labelled parse trees, those of dev's sentences left out."""
    augment: Annotated[Choice | None, InRoom("augmentations")] = None
    """Extra rows to learn from: changed copies of train's own, see `polytask list augmentations`."""
    max_rows: PositiveInt | None = None
    """Use only this many rows of train, drawn once with the recipe's seed."""
    dev_rows: PositiveInt | None = None
    """Use only this many rows of dev, drawn once with the recipe's seed."""
    max_length: Annotated[int, Field(ge=4)] | None = None
    """Tokens of an input at most, special tokens included; of a pair the longer text is cut first. The encoder's
    positions (512 for BERT) when not given."""
    bad_rows: Literal["stop", "skip"] = "stop"
    """Broken rows and rows without a label: stop and name them, or skip and count them."""
    pooling: Annotated[Choice | None, InRoom("poolings")] = None
    """How a text's tokens become one vector: see `polytask list poolings`; when not given, as the checkpoint was
    trained to (its folder's `1_Pooling/config.json`: "mean" for "minilm"), else "cls"."""
    projection: ProjectionSettings | None = None
    """Layers on each text's vector before two texts are merged; none by default."""
    pair: Annotated[Choice, InRoom("pair modes")] = Member(name="cross")
    """"cross" joins both texts into one input; { name = "bi", features = […] } encodes them apart, with `dropout` on
    each text's vector if it has a rate."""
    symmetric: bool | Symmetric = False
    """For pairs: look at both orders, train on both and score their mean; or { consistency = … }."""
    encoder: Literal["shared", "own"] = "shared"
    """"shared" with the other tasks, or a copy of the task's own, which starts as that one stands by then."""
    head: Annotated[Choice, InRoom("heads")] = Member(name="linear")
    """What turns the vector into predictions: see `polytask list heads`."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Factor of this task's loss."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Learning rate of this task's head, and of its own encoder if it has one; the stage's when not given."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """Weight decay of this task's head, and of its own encoder if it has one; the stage's when not given."""
    batch_size: PositiveInt | None = None
    """Rows a batch; the stage's when not given."""


class Last(Settings):
    """Train the last layers of the encoder (and the heads)."""

    last: PositiveInt
    """How many layers, from the top."""


class ScheduleSettings(Settings):
    """How the learning rate runs over a stage."""

    name: Literal["constant", "linear", "cosine"] = "linear"
    """"constant", "linear" (down to 0), or "cosine" (down to 0)."""
    warmup: Annotated[float, Field(ge=0)] = 0.1
    """Warm-up from 0: a share of the stage below 1, steps from 1 on; see `warmup_unit`."""
    warmup_unit: Literal["auto", "share", "steps", "epochs"] = "auto"
    """What `warmup` counts; "auto" reads numbers below 1 as a share and others as steps."""


ScheduleOf = Annotated[
    ScheduleSettings,
    BeforeValidator(_named, json_schema_input_type=Literal["constant", "linear", "cosine"] | ScheduleSettings),
]
"""A table, or short for one."""


Decay = Annotated[float, Field(ge=0, lt=1)]


class OptimizerSettings(Settings):
    """The optimizer of a stage."""

    name: Literal["adamw", "adam"] = "adamw"
    """"adamw" (decoupled decay; Loshchilov & Hutter 2019) or "adam" (decay added to the gradient)."""
    betas: Annotated[tuple[Decay, Decay], Field(strict=False)] = (0.9, 0.999)
    """β₁ and β₂."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the denominator."""


OptimizerOf = Annotated[
    OptimizerSettings, BeforeValidator(_named, json_schema_input_type=Literal["adamw", "adam"] | OptimizerSettings)
]
"""A table, or short for one."""


class EarlyStopping(Settings):
    """Ends a stage when the dev aggregate of the stage's tasks no longer gets better."""

    patience: PositiveInt = 3
    """Evaluations without a new best of the stage before it ends."""
    minimum: Annotated[float, Field(ge=0)] = 0.0
    """How much better a new best must be."""


def _average(value: Any) -> Any:
    return {"decay": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


class AverageSettings(Settings):
    """A moving average of a stage's weights: what is evaluated and handed on, while training goes on without it."""

    decay: Annotated[float, Field(gt=0, le=1)] = 0.999
    """Share that the average keeps of itself at each step; 1 makes it the plain mean over the stage."""


AverageOf = Annotated[AverageSettings, BeforeValidator(_average, json_schema_input_type=float | AverageSettings)]
"""A table, or short for one."""


class RegularizerSettings(BaseModel):
    """A regularizer, its weight, and its options."""

    model_config = ConfigDict(
        extra="allow", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    name: str
    """See `polytask list regularizers`."""
    weight: Factor | dict[str, Factor] = 1.0
    """Factor of the penalty: one number, or one for each task that it acts on."""

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class StageSettings(Settings):
    """One stage of training."""

    train: Literal["all", "heads"] | Last = "all"
    """"all", "heads" (the encoder is frozen), or { last = k } layers of the encoder and the heads."""
    tasks: list[str] | None = None
    """The tasks that take part; all by default."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the data, as the mixing counts them (3 when neither epochs nor steps are given)."""
    steps: PositiveInt | None = None
    """Optimizer steps, instead of epochs."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    """Peak learning rate of the encoder, and of heads without their own."""
    head_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of heads without their own."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of each encoder layer as a share of that of the layer above it; the top layer has the stage's."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay; never on biases and LayerNorms."""
    batch_size: PositiveInt = 32
    """Rows a batch."""
    batch_tokens: PositiveInt | None = None
    """Instead of a fixed number of rows: as many as fit this many tokens."""
    micro_batch: PositiveInt | None = None
    """Rows that go through the encoder at once; their gradients add up to the batch's."""
    schedule: ScheduleOf = ScheduleSettings()
    """Learning-rate schedule."""
    optimizer: OptimizerOf = OptimizerSettings()
    """Optimizer."""
    clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest norm of the gradient of an encoder and its tasks' heads together; 0 does not clip."""
    mixing: Annotated[Choice, InRoom("mixing")] = Member(name="proportional")
    """Which task's batch comes when: see `polytask list mixing`."""
    balance: Annotated[Choice, InRoom("balance")] = Member(name="fixed")
    """How the losses are weighed: see `polytask list balance`."""
    aggregator: Annotated[Choice, InRoom("aggregators")] = Member(name="sum")
    """How the tasks' encoder gradients become one: see `polytask list aggregators`."""
    diagnose: bool = False
    """Record the cosines between the tasks' encoder gradients, each layer's too, whatever the aggregator. Joint mixing only."""
    regularizers: Annotated[list[Annotated[RegularizerSettings, BeforeValidator(_named)]], InRoom("regularizers")] = []
    """Penalties that are added to the losses: see `polytask list regularizers`."""
    average: AverageOf | None = None
    """Evaluate and keep a moving average of the weights: its decay, such as 0.999."""
    early_stopping: EarlyStopping | None = None
    """When to end the stage early."""
    evaluate_every: PositiveInt | None = None
    """Steps between evaluations on dev; once an epoch by default."""


class Recipe(Settings):
    """A whole run."""

    format: Literal[1] = 1
    """Version of this format."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Everything random is derived from it."""
    data: str | None = None
    """Folder of the tables, relative to the recipe's; the recipe's own by default."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the activations; "auto" is bfloat16 where the processor multiplies it natively. Masters stay float32."""
    aggregate: Annotated[Choice, InRoom("aggregates")] = Member(name="mean")
    """What the joint best is judged by: one number of the scores that judge the tasks which some stage trains, see
    `polytask list aggregates`."""
    checkpoint_every: PositiveInt = 500
    """Steps between checkpoints; evaluations write one too."""
    encoder: Annotated[EncoderSettings, InRoom("encoders")]
    """The encoder."""
    tasks: Annotated[dict[str, TaskSettings], Field(min_length=1)]
    """The tasks, by name."""
    stages: Annotated[list[StageSettings], Field(min_length=1)] = [StageSettings()]
    """The stages, in order."""
