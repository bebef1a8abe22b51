"""Calls that cannot succeed: of a program's own functions and classes, with other arguments."""

import ast
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from mutate.genome import parse

Function = ast.FunctionDef | ast.AsyncFunctionDef


PLAIN_BASES = ("object", "Module", "nn.Module", "torch.nn.Module")
"""Of a class whose call takes what its `__init__` does, whatever else it inherits."""


@lru_cache(maxsize=256)
def misfits(source: str) -> dict[str, int]:
    """Return the functions and classes that a call does not fit, and the line of the first one.

    What cannot be told from the text is taken to fit: decorated definitions, classes with other
    bases than PLAIN_BASES or without one plain `__init__`, names that are bound a second time
    anywhere or have an attribute set, starred arguments, calls under a condition, `try` or `with`.

    Raises:
        ProgramError: the program does not parse.
    """
    tree = parse(source)
    bound = Counter(_bound(tree))
    if bound["*"]:
        return {}
    taken = {
        node.name: parameters
        for node in tree.body
        if isinstance(node, Function | ast.ClassDef) and bound[node.name] == 1
        if (parameters := _parameters(node)) is not None
    }
    found: dict[str, int] = {}
    for node in _certain(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            if name in taken and not _fits(node, taken[name]):
                found[name] = min(node.lineno, found.get(name, node.lineno))
    return found


def _certain(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is inside, but for what a condition may skip or a handler may catch."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.If | ast.IfExp | ast.Try | ast.TryStar | ast.With | ast.Match):
            yield child
            yield from _certain(child)


def _bound(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            yield node.value.id if isinstance(node.value, ast.Name) else ""
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            yield node.name or ""
        elif isinstance(node, ast.MatchMapping):
            yield node.rest or ""


def _parameters(node: Function | ast.ClassDef) -> ast.arguments | None:
    """Return what a call gives, without `self`; None where the text does not tell."""
    if node.decorator_list:
        return None
    if isinstance(node, Function):
        return node.args
    plain = all(ast.unparse(base) in PLAIN_BASES for base in node.bases) and not node.keywords
    makers = [one for one in node.body if isinstance(one, Function) and one.name == "__init__"]
    names = [name for one in node.body for name in _bound(ast.Module([one], []))]
    if not plain or len(makers) != 1 or names.count("__init__") != 1 or "__new__" in names:
        return None
    args = makers[0].args
    if makers[0].decorator_list or args.posonlyargs or not args.args:
        return None
    return ast.arguments(
        [], args.args[1:], args.vararg, args.kwonlyargs, args.kw_defaults, args.kwarg, args.defaults
    )


def _fits(call: ast.Call, takes: ast.arguments) -> bool:
    keywords = {one.arg for one in call.keywords}
    if None in keywords or any(isinstance(one, ast.Starred) for one in call.args):
        return True
    places = [one.arg for one in takes.posonlyargs + takes.args]
    alone = {one.arg for one in takes.kwonlyargs}
    given = set(places[: len(call.args)])
    by_name = {*places[len(takes.posonlyargs) :], *alone}
    named = keywords & by_name
    defaults = zip(takes.kwonlyargs, takes.kw_defaults, strict=True)
    due = {*places[: max(len(places) - len(takes.defaults), 0)]}
    due |= {one.arg for one, default in defaults if default is None}
    return (
        (len(call.args) <= len(places) or takes.vararg is not None)
        and (keywords <= by_name or takes.kwarg is not None)
        and not named & given
        and due <= given | named
    )
