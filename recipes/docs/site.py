"""What the site says by itself: pages made from the code, the notebooks and the README of the recipes."""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import bertkit
from bertkit.cli import app
from bertkit.pages.answers import show
from bertkit.pages.html import fragment
from bertkit.recipe import Recipe
from bertkit.studies.glue.tables import published_dots
from bertkit.tasks.base import task_class, task_names

HERE = Path(__file__).parent
PACKAGE, RECIPES = Path(bertkit.__file__).parent, HERE.parent
REPOSITORY = "https://github.com/bertkit/bertkit"
GROUPS = {  # rooms of the package -> when their errors are met
    "Rows and files": ("data", "splits", "tasks", "encode"),
    "Recipes and settings": ("config", "recipe", "named", "objectives", "heads", "depth"),
    "Checkpoints and models": ("models", "attribution", "inference"),
    "Training": ("train", "prepare", "machine", "run.training", "run.finetune"),
    "Several processes": ("launch",),
    "Runs, answers and pages": (
        "run",
        "rundir",
        "reopen",
        "disk",
        "findings",
        "pages",
        "watching",
        "outcome",
        "metrics",
        "serve",
    ),
    "Studies": ("studies",),
    "Command line": ("cli",),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    made = {
        "reference.md": reference(), "commands.md": commands(), "errors.md": errors(),
        "measurements.md": measurements(), "own-task.md": contributing("A new task"),
        "own-objective.md": contributing("A new objective"),
    }  # fmt: skip
    made |= {f"tutorials/{path.stem}.md": tutorial(path) for path in sorted((RECIPES / "notebooks").glob("*.ipynb"))}
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in pictures and tables; a comment says which: `<!-- people -->`."""
    for name, make in {"people": people, "answer": answer, "speed": speed}.items():
        if f"<!-- {name} -->" in markdown:
            markdown = markdown.replace(f"<!-- {name} -->", make())
    return markdown


def people() -> str:
    """Published models on GLUE beside people."""
    return one_line(fragment([published_dots()]))


def answer() -> str:
    """An answer marked in its document; the page says what gave it."""
    return one_line(show(json.loads((HERE / "answer.json").read_text(encoding="utf-8")))._repr_html_())


def one_line(element: str) -> str:
    """HTML that Markdown leaves alone: a blank line would end it."""
    return re.sub(r"\n\s*\n", "\n", element)


def speed() -> str:
    """Seconds of whole processes, of the README of the recipes."""
    section = section_of(RECIPES / "README.md", "Speed")
    (table,) = re.findall(r"(?:^\| side \| seconds.*\n)(?:\|.*\n)+", section, re.M)
    return table


def section_of(path: Path, title: str) -> str:
    """The text below a heading."""
    (text,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", path.read_text(encoding="utf-8"), re.M | re.S)
    return text


def linked(text: str, folder: str) -> str:
    """Links to files of the repository, as its site has them."""
    absolute = f"{REPOSITORY}/blob/main/{folder}"
    return re.sub(r"\]\((?!https?:|#)([^)]+)\)", lambda found: f"]({absolute}{found[1]})", text)


def measurements() -> str:
    return linked(
        (RECIPES / "README.md").read_text(encoding="utf-8").replace("# Recipes", "# Measurements", 1), "recipes/"
    )


def contributing(title: str) -> str:
    name = title.replace("A new", "A").rstrip() + " of your own"
    return f"# {name}\n\n{linked(section_of(RECIPES.parent / 'CONTRIBUTING.md', title), '')}"


def tutorial(path: Path) -> str:
    """A notebook, without outputs; its first heading is that of the page."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = re.sub(
            r"\[!\[([^]]*)\]\([^)]*\)\]", r"[\1]", "".join(cell["source"])
        )  # a badge is an image from elsewhere
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(parts)


# The recipe.


def reference() -> str:
    """Every setting, by section."""
    parts = [
        "# Recipe", "",
        "Every setting of a recipe, as `KEY=VALUE` on a command line or in a YAML file; `bertkit recipe show NAME` "
        "prints a recipe with all of them.", "",
    ]  # fmt: skip
    for name, field in Recipe.model_fields.items():
        section = field.annotation
        if name == "task":
            continue
        if not hasattr(section, "model_fields"):
            parts += [f"## {name}", "", *table({name: field}), ""]
            continue
        parts += [f"## {name}", "", said(section), "", *table(section.model_fields, f"{name}."), ""]
    parts += ["## task", "", "Each task has settings of its own beside `task.name`.", ""]
    for name in task_names():
        kind = task_class(name)
        parts += [
            f"### {name}",
            "",
            said(kind),
            "",
            *table({key: value for key, value in kind.model_fields.items() if key != "name"}, "task."),
            "",
        ]
    return "\n".join(parts)


def said(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split())


def table(fields: dict, prefix: str = "") -> Iterator[str]:
    """A row a setting: its name, default, and what it is."""
    yield "| setting | default | what it is |"
    yield "|---|---|---|"
    for name, field in fields.items():
        default = field.get_default(call_default_factory=True)
        shown = json.dumps(default, default=str) if not isinstance(default, type) else ""
        kind = re.sub(
            r"typing\.|<class '|'>|NoneType",
            lambda found: "null" if found[0] == "NoneType" else "",
            str(field.annotation),
        )
        choices = re.findall(r"Literal\[(.*?)\]", kind)
        more = f" One of {choices[0]}." if choices else ""
        yield f"| `{prefix}{name}` | `{shown}` | {cell(field.description or '')}{cell(more)} |"


def cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")


# The commands.


def commands() -> str:
    """What `--help` of every verb says."""
    parts = ["# Commands", ""]
    for path, command in walk(typer.main.get_command(app), ("bertkit",)):
        parts += [f"## {' '.join(path)}", "", *paragraphs(command.help), ""]
        if command.epilog:
            parts += ["```sh", plain(command.epilog).removeprefix("Example: "), "```", ""]
        parts += ["| option | what it is |", "|---|---|"]
        for option in command.params:
            if option.name != "help":
                is_option = option.param_type_name == "option"
                names = ", ".join(
                    f"`{name}`" for name in (option.opts if is_option else [option.metavar or option.name])
                )
                parts.append(f"| {names} | {cell(plain(option.help or ''))} |")
        parts.append("")
    return "\n".join(parts)


def walk(command: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
    for name, inner in (below or {}).items():
        yield from walk(inner, (*path, name))


def paragraphs(text: str) -> Iterator[str]:
    for part in plain(text).split("\n\n"):
        yield html.escape(" ".join(part.split()), quote=False)
        yield ""


def plain(text: str) -> str:
    return text.replace("\\[", "[")


# The errors.


class Raised(NamedTuple):
    """One place where an error is made."""

    module: str
    line: int
    message: str
    hint: str


def errors() -> str:
    """Every error line that bertkit has, with its hint."""
    found = list(raised())
    parts = [
        "# Errors", "",
        "An error has two lines: `error:` says what is wrong and where, `hint:` what to do. The exit code is 2, and "
        f"nothing half-written stays behind. These are all {len(found)} of them, with a word in angle brackets where a "
        "value stands; search this page for the words that you see.", "",
    ]  # fmt: skip
    for group in GROUPS:
        some = [one for one in found if group_of(one.module) == group]
        parts += [f"## {group}", "", "| error | what to do | where |", "|---|---|---|"]
        for one in sorted(some, key=lambda one: one.message.lower()):
            place = f"{one.module.replace('.', '/')}.py"
            parts.append(f"| {cell(one.message)} | {cell(one.hint)} | `{place}` |")
        parts.append("")
    return "\n".join(parts)


def group_of(module: str) -> str:
    """The group whose room names the module most closely."""
    names = [
        (len(room), group) for group, rooms in GROUPS.items() for room in rooms if f"{module}.".startswith(f"{room}.")
    ]
    return max(names)[1]


def raised() -> Iterator[Raised]:
    """All places where a BertkitError is made with a text of its own."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        for scope in ast.walk(tree):
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
                texts = assigned(scope)
                for call in own_calls(scope):
                    given = {keyword.arg: keyword.value for keyword in call.keywords}
                    message = call.args[0] if call.args else given.get("message")
                    hint = call.args[1] if len(call.args) > 1 else given.get("hint")
                    yield Raised(module, call.lineno, template(message, texts), template(hint, texts))


def own_calls(scope: ast.AST) -> Iterator[ast.Call]:
    """The errors that a function makes itself, not the functions within it."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "BertkitError":
            yield node
        waiting += ast.iter_child_nodes(node)


def assigned(scope: ast.AST) -> dict[str, ast.expr]:
    """The texts that names stand for within a function."""
    found = {}
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = (
                    zip(target.elts, node.value.elts, strict=False)
                    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                    else [(target, node.value)]
                )
                found |= {name.id: value for name, value in pairs if isinstance(name, ast.Name)}
    return found


def template(node: ast.expr | None, texts: dict[str, ast.expr], depth: int = 0) -> str:
    """A text as people see it, with <name> where a value stands."""
    if node is None or (isinstance(node, ast.Constant) and node.value is None):
        return ""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part, texts, depth) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return template(node.value, texts, depth)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left, texts, depth) + template(node.right, texts, depth)
    if isinstance(node, ast.IfExp):
        return f"{template(node.body, texts, depth)} / {template(node.orelse, texts, depth)}"
    if isinstance(node, ast.Name) and isinstance(texts.get(node.id), ast.JoinedStr | ast.Constant) and depth < 3:
        return template(texts[node.id], texts, depth + 1)
    words = re.findall(r"[A-Za-z_]\w*", ast.unparse(node))
    return f"<{words[-1].strip('_').replace('_', ' ')}>" if words else "<value>"
