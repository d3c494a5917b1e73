"""Write docs/options.md from the parsers:  python docs/make_options.py"""

from pathlib import Path

from imunity_bids.cli import demo, evaluate, fetch, harmonize, parser, predict, slurm, train


def text() -> str:
    """The help of all commands, as Markdown."""
    parts = ["# Options\n\nMade by `python docs/make_options.py`; do not edit.\n"]
    tops = [
        parser.build_parser(),
        harmonize.build_parser(),
        train.build_parser(),
        evaluate.build_parser(),
        predict.build_parser(),
        slurm.build_parser(),
        fetch.build_parser(),
        demo.build_parser(),
    ]
    for top in tops:
        inner = [
            c for a in top._actions if hasattr(a, "choices") and isinstance(a.choices, dict) for c in a.choices.values()
        ]
        for one in inner or [top]:
            parts.append(f"## `{one.prog}`\n\n```\n{one.format_help()}```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("options.md").write_text(text(), encoding="utf-8")
