"""What the scripts do once their arguments are parsed: call one run, print, write.

Imports stand inside the functions: TensorFlow takes three seconds, and a picture is answered
without it.
"""

import logging
from pathlib import Path

from badnet_defense.cli.console import (
    CANNOT_JUDGE,
    FOUND,
    add_engine,
    add_reading,
    engine_of,
    labels,
    load_tensorflow,
    seed,
)
from badnet_defense.cli.guard import RATE, add_detector_options, expected_text
from badnet_defense.errors import InputError, printable
from badnet_defense.io.files import check_writable
from badnet_defense.repairs.registry import DEFAULT, REPAIRS

log = logging.getLogger(__name__)

VERDICT_CODES = (
    "exit code 0: nothing found, 1: a backdoor found, 2: bad input, 3: suspicious, or it cannot be "
    "judged"
)


def add_repair_options(parser, root):
    """Adds the options of `fine_prune.py`."""
    add = parser.add_argument
    add("--clean", default=str(root / "data/clean_validation_data.h5"), help="clean pictures")
    add("--method", choices=REPAIRS.names(), default=DEFAULT, help="repair method")
    add("--layer", help="layer to prune; None: the last convolution on every path")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--max-accuracy-drop", type=float, help="in [0, 1]; None: the default")
    amount.add_argument("--fraction", type=float, help="prune this share of channels instead")
    add("--tuning", choices=("default", "classic"), help="recipe; None: the method's own")
    add("--epochs", type=int, help="of tuning, at least the recipe's steps; None: its own; 0: none")
    add("--keep-pruned", action="store_true", help="hold the pruned channels at zero")
    add("--pseudo-labels", action="store_true", help="take the net's own soft answers as labels")
    add("--seed", type=seed, default=0, help="of everything that is drawn at random")
    add("--out", default=str(root / "fine_pruned_models"), help="folder for what is made")
    add("--json", help="also write the result here")
    add_reading(parser)


def repair(arguments):
    """Repairs a net as the arguments say, prints the clean pictures' table and writes the files."""
    check_writable(arguments.json, inputs=(arguments.model, arguments.clean))
    load_tensorflow()
    from badnet_defense.io.records import write_json
    from badnet_defense.report.tables import defense_table, repair_text
    from badnet_defense.workflows.repair import repair_file

    def tell(result):
        print(f"{printable(arguments.model)}: {repair_text(result)}")
        print(defense_table(result))

    settings = _repair_settings(arguments)
    result = repair_file(**settings, tell=tell)
    if arguments.json:
        write_json(arguments.json, result)
    print(f"written to {printable(arguments.out)}")


def _repair_settings(arguments):
    """The arguments of `fine_prune.py` as `repair_file` takes them."""
    from dataclasses import replace

    from badnet_defense.repairs.recipes import RECIPES

    method = REPAIRS[arguments.method]
    given = {
        name: getattr(arguments, name)
        for name in ("layer", "max_accuracy_drop", "fraction", "keep_pruned")
        if getattr(arguments, name) not in (None, False)
    }
    config = method.make_config(given)
    recipe = own = getattr(config, "tuning", None)
    if arguments.tuning:
        if recipe is None or recipe.sharpness:
            raise InputError(f"--tuning cannot be used with --method {method.name}.")
        recipe = RECIPES[arguments.tuning]
    if arguments.epochs is not None:
        least = 0 if method.facts.get("changes_before_tuning") else 1
        if arguments.epochs < least:
            raise InputError(f"--epochs {arguments.epochs}: expected {least} or more.")
        if recipe is None:
            raise InputError(f"--epochs cannot be used with --method {method.name}.")
        recipe = replace(recipe, epochs=arguments.epochs)
    if recipe is not own:
        config = replace(config, tuning=recipe)
    shared = ("model", "clean", "out", "method", "pseudo_labels", "input_range", "seed")
    return {"config": config, **{name: getattr(arguments, name) for name in shared}}


def add_defence_options(parser, root):
    """Adds what `eval_defense.py` and `eval_defense_nodata.py` share."""
    add = parser.add_argument
    for part in ("validation", "test"):
        default = f"None: data/clean_{part}_data.h5, where it is there"
        add(f"--clean-{part}", help=f"clean {part} pictures; {default}")
    add("--repaired", help="the repaired net; None: the model's own, made if it is not there")
    add("--models", default=str(root / "fine_pruned_models"), help="folder of repaired nets")
    add("--seed", type=seed, default=0, help="of a repair, if one has to be made")
    add("--json", help="write the result here")
    add_detector_options(parser, default=None)
    parser.set_defaults(data=root / "data", plots=None)
    add_reading(parser, stored=True)


def judge(arguments, *, poisoned=None, trigger_labels=None):
    """Measures a defence as the arguments say, prints its table and writes its JSON."""
    for name in ("false_alarms", "plots"):
        if getattr(arguments, name) and not arguments.detector:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} came without --detector; name one, such as soft.")
    named = (arguments.model, poisoned, trigger_labels, arguments.repaired)
    sets = (arguments.clean_validation, arguments.clean_test)
    check_writable(arguments.json, inputs=(*named, *sets))
    load_tensorflow()
    from badnet_defense.io.records import write_json
    from badnet_defense.report.tables import defense_table
    from badnet_defense.workflows.evaluate import evaluate_files

    def tell(result):
        if arguments.detector:
            print(expected_text(result["detector"]))
        print(defense_table(result))

    result = evaluate_files(
        arguments.model,
        {**_clean_sets(arguments), "poisoned": poisoned},
        folder=arguments.models,
        repaired=arguments.repaired,
        trigger_labels=trigger_labels,
        detector=arguments.detector,
        false_positive_rate=arguments.false_alarms or RATE,
        plots=arguments.plots,
        tell=tell,
        input_range=arguments.input_range,
        seed=arguments.seed,
    )
    if arguments.json:
        write_json(arguments.json, result)


def _clean_sets(arguments):
    """The clean sets that were named, and those of the challenge's names that are there."""
    sets = {}
    for part in ("clean_validation", "clean_test"):
        path = getattr(arguments, part)
        sets[part] = path or str(arguments.data / f"{part}_data.h5")
        if path is None and not Path(sets[part]).exists():
            log.info("%s: not there, left out", sets[part])
            sets[part] = None
    return sets


def add_answering(parser):
    """Adds what scripts that answer images share."""
    parser.add_argument(
        "--alone",
        action="store_true",
        help="let a net answer by itself, without a guard, whatever images carry",
    )
    add_reading(parser, stored=True)


def answer(arguments, *, root):
    """Prints the class of each image, or the accuracy of a net on a data set."""
    from badnet_defense.workflows.classify import asks_for_accuracy, classify_images, data_accuracy

    inputs = arguments.inputs
    how = {"alone": arguments.alone, "input_range": arguments.input_range}
    if asks_for_accuracy(inputs, arguments.net):
        load_tensorflow()
        accuracy = data_accuracy(*inputs, **how)
        print(f"Classification accuracy: {100 * accuracy:.2f}")
        return
    net = arguments.net or "sunglasses"
    answers = classify_images(inputs, net, root=root, **how)
    for path, label in zip(inputs, answers, strict=True):
        print(label if len(inputs) == 1 else f"{printable(path)}\t{label}")


def submission(name, *, root):
    """One of the contest's four scripts: prints the answer of the net `name` for its pictures."""
    from badnet_defense.cli.console import parser

    arguments = parser(f"The guarded net {name}: the class of a picture, or N for poisoned.")
    arguments.add_argument("inputs", nargs="+", metavar="PICTURE", help="an image file")
    add_answering(arguments)
    parsed = arguments.parse_args()
    parsed.net = name
    answer(parsed, root=root)


def add_demo(chosen):
    """Adds the command that makes the demo challenge."""
    help_text = (
        "make the demo challenge: drawn faces and weights-only models in the challenge's files"
    )
    own = chosen.add_parser("demo", help=help_text, description=help_text)
    own.add_argument("--out", default="data", help="folder for the data (default data)")
    own.add_argument("--train", action="store_true", help="also train its four nets, for an hour")
    hard = "with --train: the hard mode's two nets instead, of a rare and of a pruning-aware attack"
    own.add_argument("--hard", action="store_true", help=hard)
    own.add_argument("--models", default="models", help="folder for the nets (default models)")
    own.add_argument("--seed", type=seed, default=0, help="of people, pictures and nets")
    own.set_defaults(run=_demo)


def _demo(arguments):
    from badnet_defense.demo import (
        BACKDOORS,
        HARD,
        make_challenge,
        train_demo_nets,
        write_weights_only,
    )

    if arguments.hard and not arguments.train:
        raise InputError("--hard came without --train; the pictures are those of the easy mode.")
    models = arguments.train or Path(arguments.models).is_dir()
    places = (arguments.out, arguments.models) if models else (arguments.out,)
    check_writable(*(Path(place) / "files" for place in places))
    make_challenge(arguments.out, seed=arguments.seed)
    load_tensorflow()
    if arguments.train:
        names = tuple(HARD if arguments.hard else BACKDOORS)
        train_demo_nets(arguments.models, names=names, seed=arguments.seed)
    write_weights_only(arguments.models)


def add_scan(chosen):
    """Adds the command that looks for target labels."""
    help_text = "find a net's target labels by inverting a trigger for each label"
    own = chosen.add_parser("scan", help=help_text, description=f"{help_text}; {VERDICT_CODES}")
    add = own.add_argument
    add("model", metavar="MODEL", help="the suspect net")
    add(
        "--clean",
        required=True,
        metavar="DATA",
        help="clean pictures, 32 or more; labels are not needed",
    )
    asked = "such as 0-42 or 1,5,8 (default: all); few are judged by others, scanned beside them"
    add("--labels", type=labels, help=asked)
    add("--budget", choices=("fast", "full"), default="fast", help="steps for each label")
    add("--repair", choices=("prune", "unlearn"), help="also repair the net with what was found")
    add("--pseudo-labels", action="store_true", help="repair by the net's own answers as labels")
    add("--out", help="path of what is written, without endings (default results/scan/<stem>)")
    add("--json", help="also write the result here")
    add("--seed", type=seed, default=0, help="of patterns, pictures and shifts")
    add_reading(own)
    add_engine(own)
    own.set_defaults(run=_scan)


def _scan(arguments):
    load_tensorflow()
    from badnet_defense.io.records import write_json
    from badnet_defense.report.tables import defense_table, scan_text
    from badnet_defense.scan.scan import ScanConfig
    from badnet_defense.workflows.scan import scan_file

    if arguments.pseudo_labels and not arguments.repair:
        raise InputError("--pseudo-labels came without --repair; a scan itself needs no labels.")
    check_writable(arguments.json, inputs=(arguments.model, arguments.clean))

    def tell(result):
        print(scan_text(result))
        if "repair" in result:
            print(defense_table(result["repair"]))

    labels = None if arguments.labels is None else tuple(arguments.labels)
    with engine_of(arguments) as engine:
        result = scan_file(
            arguments.model,
            arguments.clean,
            out=arguments.out or f"results/scan/{Path(arguments.model).stem}",
            config=ScanConfig(labels=labels, budget=arguments.budget),
            repair=arguments.repair,
            pseudo_labels=arguments.pseudo_labels,
            input_range=arguments.input_range,
            seed=arguments.seed,
            executor=engine,
            report=tell,
        )
    if arguments.json:
        write_json(arguments.json, result)
    if arguments.repair and "repair" not in result:
        log.warning("no label was flagged: there is nothing to repair, and no net was written")
    return verdict_code([result["verdict"]])


def verdict_code(verdicts):
    """The exit code of a command that gave these verdicts (`scan.verdict`)."""
    from badnet_defense.scan.verdict import BACKDOORED, CLEAN

    if BACKDOORED in verdicts:
        return FOUND
    return 0 if all(verdict == CLEAN for verdict in verdicts) else CANNOT_JUDGE


def add_summary(chosen):
    """Adds the command that joins results into one table."""
    help_text = "join result files into one table"
    own = chosen.add_parser("summary", help=help_text, description=help_text)
    own.add_argument("results", nargs="+", metavar="RESULT.json")
    own.add_argument("--json", help="write all results into one file")
    own.set_defaults(run=_summary)


def _summary(arguments):
    from badnet_defense.io.records import read_figures, write_json
    from badnet_defense.report.tables import summary_table

    check_writable(arguments.json)
    results = [read_figures(path) for path in arguments.results]
    print(summary_table(results))
    if arguments.json:
        write_json(arguments.json, {"schema": 1, "results": results})
