"""The look in one place: colours, sizes, and the style sheet of the frame."""

from dataclasses import dataclass

FONT_PX = 14
TITLE_PX = 20


@dataclass(frozen=True)
class Palette:
    """Colours of one theme, as #rrggbb."""

    background: str
    raised: str
    """Behind widgets and in the sidebar."""
    text: str
    muted: str
    border: str
    accent: str
    """Links, selection, focus: nothing else."""
    on_accent: str
    """Text on the accent."""
    amber: str
    """Warnings, as text."""
    positive: str
    """Heat of a positive activation at its feature's maximum."""
    negative: str


LIGHT = Palette(
    background="#ffffff",
    raised="#f6f7f8",
    text="#1f2328",
    muted="#5d646d",
    border="#e1e4e8",
    accent="#0b6b62",
    on_accent="#ffffff",
    amber="#8a5800",
    positive="#ff9a2e",
    negative="#6aa8ff",
)
DARK = Palette(
    background="#16181b",
    raised="#1e2125",
    text="#e6e8eb",
    muted="#9aa1ab",
    border="#2d3137",
    accent="#5fbfb2",
    on_accent="#16181b",
    amber="#e2b254",
    positive="#b33f00",
    negative="#2160b8",
)
PALETTES = {"light": LIGHT, "dark": DARK}


def palette(kind: str | None) -> Palette:
    """The palette of Streamlit's theme type; light where the browser has not said yet."""
    return PALETTES.get(kind or "light", LIGHT)


def options() -> dict[str, object]:
    """Streamlit's configuration of both themes. The heat colours travel as orange and blue."""
    found: dict[str, object] = {
        "theme.baseFontSize": FONT_PX,
        "theme.baseRadius": "4px",
        "theme.headingFontSizes": [f"{TITLE_PX}px", "15px", "14px", "14px", "13px", "13px"],
        "theme.headingFontWeights": [600] * 6,
        "theme.codeFontSize": "12.5px",
        "theme.linkUnderline": False,
        "theme.paddingTop": "0.5rem",
        "theme.showSidebarBorder": True,
    }
    for kind, colours in PALETTES.items():
        found |= {
            f"theme.{kind}.backgroundColor": colours.background,
            f"theme.{kind}.secondaryBackgroundColor": colours.raised,
            f"theme.{kind}.textColor": colours.text,
            f"theme.{kind}.borderColor": colours.border,
            f"theme.{kind}.primaryColor": colours.accent,
            f"theme.{kind}.linkColor": colours.accent,
            f"theme.{kind}.grayTextColor": colours.muted,
            f"theme.{kind}.yellowTextColor": colours.amber,
            f"theme.{kind}.orangeTextColor": colours.amber,  # the heat's orange is no text colour
            f"theme.{kind}.orangeColor": colours.positive,
            f"theme.{kind}.blueColor": colours.negative,
        }
    return found


def blend(over: str, under: str, alpha: float) -> str:
    """#rrggbb of `over` at opacity `alpha` on `under`."""
    pairs = [(int(over[i : i + 2], 16), int(under[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(alpha * a + (1 - alpha) * b):02x}" for a, b in pairs)
