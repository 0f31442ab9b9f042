"""The `normalizer` of a raw feature, parsed once for the trainer (NumPy) and the job (Spark).

The expression of an expr_feature is of the same grammar, with names of columns in place of x.

    method=log10,threshold=1e-10,default=-10      x > threshold ? log10(x) : default
    method=zscore,mean=0,standard_deviation=10    (x - mean) / standard_deviation
    method=minmax,min=2.1,max=2.2                 (x - min) / (max - min)
    method=expression,expr=log(x+3)               an expression of x

Each becomes a tree, which `evaluate` computes by functions and operators that the caller brings.
An expression has numbers, x, calls of FUNCTIONS, parentheses and, from weak to strong:
`a ? b : c`, `||`, `&&`, comparisons, `+ -`, `* /`, signs, `^` (power). Comparisons give 1 or 0; any
number but 0 is true. Nothing of it is ever run as Python.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# Arguments that each takes: one, two, or two and more.
FUNCTIONS = {
    **dict.fromkeys(("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"), 1),
    **dict.fromkeys(("asinh", "acosh", "atanh", "log", "ln", "log2", "log10", "exp", "sqrt"), 1),
    **dict.fromkeys(("sign", "abs", "rint", "floor", "ceil", "trunc", "round", "sigmoid"), 1),
    **dict.fromkeys(("min", "max"), 2),
}
CONSTANTS = {"_pi": math.pi, "_e": math.e}
# Every operator that `evaluate` may ask for; `?:` has three operands, `neg` one.
OPERATORS = ("||", "&&", "<=", ">=", "!=", "==", "<", ">", "+", "-", "*", "/", "^", "neg", "?:")
_STRENGTH = {
    **{"||": 1, "&&": 2, "<=": 3, ">=": 3, "!=": 3, "==": 3, "<": 3, ">": 3},
    **{"+": 4, "-": 4, "*": 5, "/": 5, "^": 7},
}
_SIGN = 6  # -x^2 is -(x^2)
MAX_DEPTH = 200  # of calls in calls: `evaluate` calls itself for each
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<mark>\|\||&&|[<>=!]=|[-+*/^<>()?:,]))"
)
_METHODS = {
    "log10": ({"threshold": 1e-10, "default": -10.0}, "x > threshold ? log10(x) : default"),
    "zscore": ({"mean": None, "standard_deviation": None}, "(x - mean) / standard_deviation"),
    "minmax": ({"min": None, "max": None}, "(x - min) / (max - min)"),
}


@dataclass(frozen=True)
class Call:
    """A function or an operator with its arguments."""

    name: str
    arguments: tuple[Node, ...]


Node = float | str | Call  # a number, the name of one, or a call


@dataclass(frozen=True)
class Expression:
    """What is computed of numbers with names."""

    text: str
    names: tuple[str, ...]
    tree: Node

    @classmethod
    def parse(cls, text: str, names: tuple[str, ...]) -> Expression:
        """An expression of the numbers `names`.

        Raises:
            ValueError: the text is none; the message has what is wrong and what is known.
        """
        return cls(text, names, _Parser(text, "an expression", variables=names).parse())

    def evaluate(
        self, values: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]
    ) -> Any:
        """The value of the tree, where `functions` has all of FUNCTIONS and OPERATORS."""
        return _evaluate(self.tree, values, functions)


@dataclass(frozen=True)
class Normalizer:
    """What is computed of each number x."""

    text: str
    tree: Node

    @classmethod
    def parse(cls, text: str) -> Normalizer:
        """A normalizer from a config.

        Raises:
            ValueError: the text is none; the message has what is wrong and what is known.
        """
        method, _, rest = text.removeprefix("method=").partition(",")
        if not text.startswith("method=") or method not in (*_METHODS, "expression"):
            known = ", ".join((*_METHODS, "expression"))
            raise ValueError(f"normalizer must be method={known} with its parameters, not {text!r}")
        if method == "expression":
            if not rest.startswith("expr="):
                raise ValueError(f"normalizer must be method=expression,expr=..., not {text!r}")
            return cls(text, _Parser(rest.removeprefix("expr=")).parse())
        defaults, formula = _METHODS[method]
        return cls(text, _Parser(formula, constants=_parameters(text, rest, defaults)).parse())

    def evaluate(self, x: Any, functions: Mapping[str, Callable[..., Any]]) -> Any:
        """The value of the tree, where `functions` has all of FUNCTIONS and OPERATORS."""
        return _evaluate(self.tree, {"x": x}, functions)


def _evaluate(
    tree: Node, values: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]
) -> Any:
    def value(node: Node) -> Any:
        if isinstance(node, Call):
            return functions[node.name](*map(value, node.arguments))
        return values[node] if isinstance(node, str) else node

    return value(tree)


def _parameters(text: str, rest: str, defaults: Mapping[str, float | None]) -> dict[str, float]:
    """Numbers of `name=number,...`; those that do not stand there have their defaults."""
    found = dict(defaults)
    for part in filter(None, rest.split(",")):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if name not in defaults:
            raise ValueError(f"normalizer {text!r} has no {name!r}; it has {', '.join(defaults)}")
        try:
            found[name] = float(number)
        except ValueError:
            raise ValueError(f"normalizer {text!r}: {name} must be a number") from None
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise ValueError(f"normalizer {text!r} must have {missing[0]}, but it is missing")
    numbers = {name: value for name, value in found.items() if value is not None}
    if numbers.get("standard_deviation") == 0 or numbers.get("min", 0) == numbers.get("max", 1):
        raise ValueError(f"normalizer {text!r} must not divide by zero")
    return numbers


def _depth(tree: Node) -> int:
    """Calls from the root down to the deepest one."""
    depth, level = 0, [tree]
    while level := [part for node in level if isinstance(node, Call) for part in node.arguments]:
        depth += 1
    return depth


class _Parser:
    """Precedence climbing over the tokens of one expression.

    `what` is its name in errors, `constants` stand beside CONSTANTS.
    """

    def __init__(
        self,
        text: str,
        what: str = "the expression of a normalizer",
        constants: Mapping[str, float] | None = None,
        variables: tuple[str, ...] = ("x",),
    ) -> None:
        self.text, self.what, self.variables = text, what, variables
        self.constants = CONSTANTS | dict(constants or {})
        self.tokens: list[tuple[str, str]] = []  # kind, text
        at = 0
        while at < len(text.rstrip()):
            found = _TOKEN.match(text, at)
            if found is None:
                raise self._error(f"it has {text[at:].strip()[0]!r}")
            self.tokens.append((found.lastgroup or "", found[found.lastgroup or 0]))
            at = found.end()
        self.at = 0

    def parse(self) -> Node:
        try:
            tree = self._ternary()
        except RecursionError:
            raise self._error("parts are nested too deeply") from None
        if self.at < len(self.tokens):
            raise self._error(f"{self._next()!r} must not stand there")
        if _depth(tree) > MAX_DEPTH:
            raise self._error(f"more than {MAX_DEPTH} operations depend on each other")
        return tree

    def _ternary(self) -> Node:
        condition = self._binary(1)
        if not self._accept("?"):
            return condition
        first = self._ternary()
        self._expect(":")
        return Call("?:", (condition, first, self._ternary()))

    def _binary(self, least: int) -> Node:
        left = self._operand()
        while _STRENGTH.get(self._next(), 0) >= least:
            operator = self._next()
            self.at += 1
            # a - b - c is (a - b) - c; a ^ b ^ c is a ^ (b ^ c)
            right = self._binary(_STRENGTH[operator] + (operator != "^"))
            left = Call(operator, (left, right))
        return left

    def _operand(self) -> Node:
        kind, token = self.tokens[self.at] if self.at < len(self.tokens) else ("", "its end")
        self.at += 1
        if token in ("-", "+"):
            operand = self._binary(_SIGN)
            return Call("neg", (operand,)) if token == "-" else operand
        if token == "(":
            inner = self._ternary()
            self._expect(")")
            return inner
        if kind == "number":
            return float(token)
        if token in self.variables:
            return token
        if token in self.constants:
            return self.constants[token]
        if token in FUNCTIONS and self._accept("("):
            return self._call(token)
        raise self._error(f"a value must stand where {token!r} stands")

    def _call(self, name: str) -> Call:
        arguments = [self._ternary()]
        while self._accept(","):
            arguments.append(self._ternary())
        self._expect(")")
        if FUNCTIONS[name] == 1 != len(arguments) or FUNCTIONS[name] > len(arguments):
            raise self._error(f"{name} takes {FUNCTIONS[name]} arguments, not {len(arguments)}")
        left = Call(name, tuple(arguments[:2]))
        for argument in arguments[2:]:  # min and max of more than two
            left = Call(name, (left, argument))
        return left

    def _next(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def _accept(self, mark: str) -> bool:
        found = self._next() == mark
        self.at += found
        return found

    def _expect(self, mark: str) -> None:
        if not self._accept(mark):
            raise self._error(f"{mark!r} must stand where {self._next() or 'its end'!r} stands")

    def _error(self, reason: str) -> ValueError:
        return ValueError(
            f"{self.what} must have numbers, {', '.join(self.variables)}, operators and functions "
            f"({', '.join(FUNCTIONS)}) alone, but in {self.text!r} {reason}"
        )
