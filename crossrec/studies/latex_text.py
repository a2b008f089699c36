"""Text in LaTeX source."""

from __future__ import annotations

from crossrec.studies.shown import one_line

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "{''}", "[": "{[}", "]": "{]}", "*": "{*}", "`": "{`}", "'": "{'}",
    "\N{EN DASH}": "--", "\N{EM DASH}": "---", "\N{NO-BREAK SPACE}": "~",
}  # fmt: skip

MATH = {
    "±": "pm", "×": "times", "÷": "div", "·": "cdot", "≤": "leq", "≥": "geq", "≠": "neq", "≈": "approx", "≡": "equiv",
    "∼": "sim", "∝": "propto", "→": "rightarrow", "←": "leftarrow", "↔": "leftrightarrow", "↑": "uparrow",
    "↓": "downarrow", "⇒": "Rightarrow", "∈": "in", "∉": "notin", "⊂": "subset", "⊆": "subseteq", "∩": "cap",
    "∪": "cup", "∅": "emptyset", "∞": "infty", "∑": "sum", "∏": "prod", "∂": "partial", "∇": "nabla", "√": "surd",
    "⊕": "oplus", "⊗": "otimes", "⊙": "odot", "∘": "circ", "ℓ": "ell", "⟨": "langle", "⟩": "rangle", "¬": "neg",
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ϵ": "epsilon", "ζ": "zeta", "η": "eta",
    "θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "µ": "mu", "ν": "nu", "ξ": "xi", "π": "pi",
    "ρ": "rho", "σ": "sigma", "ς": "varsigma", "τ": "tau", "υ": "upsilon", "φ": "varphi", "ϕ": "phi", "χ": "chi",
    "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi",
    "Σ": "Sigma", "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
"""Letters that are commands of math mode."""

LETTERS = {
    **SPECIAL,
    **{letter: rf"$\{command}$" for letter, command in MATH.items()},
    **{letter: f"$^{{{digit}}}$" for letter, digit in zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")},
    **{letter: f"$_{{{digit}}}$" for letter, digit in zip("₀₁₂₃₄₅₆₇₈₉", "0123456789")},
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo")),  # Greek letters that look Latin have no commands
    "\N{MINUS SIGN}": "$-$",
}

KNOWN = frozenset(
    {chr(code) for code in (*range(32, 127), *range(0xA1, 0x17F))}.difference("«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲų")
    | {*LETTERS, *"‐‒―‖‘’“”†‡•…‰€™"}
)
"""What pdfLaTeX typesets without a package, as itself or by ``LETTERS``."""


def escape(text: str) -> str:
    """``text`` as LaTeX that typesets to it, safe also at the start of a table row."""
    text = one_line(text)
    return "".join(
        "-{}" if letter == after == "-" else LETTERS.get(letter, letter)  # -- would be a dash
        for letter, after in zip(text, text[1:] + " ")
    )


def unknown(text: str) -> list[str]:
    """Letters of ``text`` that pdfLaTeX refuses without a package, in the order of their first appearance."""
    return [letter for letter in dict.fromkeys(one_line(text)) if letter not in KNOWN]
