"""The one style sheet and the palette, made from the tokens; nothing else in the window names a colour."""

from __future__ import annotations

from PySide6.QtGui import QColor, QPalette

from kd_gui.theme.tokens import Tokens

_SHEET = """
QToolTip {{ background: {surface}; color: {text}; border: 1px solid {line}; padding: 6px 8px; }}
QMainWindow {{ background: {ground}; }}
QDialog {{ background: {surface}; border: 1px solid {line}; }}

QFrame[role="card"] {{ background: {surface}; border: 1px solid {line}; border-radius: 8px; }}
QFrame[role="bar"] {{ background: {surface}; border: none; }}
QFrame[role="rule"] {{ background: {line}; border: none; max-height: 1px; min-height: 1px; }}
QLabel {{ background: transparent; }}
QLabel[tone="muted"] {{ color: {muted}; }}
QLabel[tone="faint"] {{ color: {faint}; }}
QLabel[tone="teacher"] {{ color: {teacher}; }}
QLabel[tone="student"] {{ color: {student}; }}
QLabel[tone="good"] {{ color: {good}; }}
QLabel[tone="warn"] {{ color: {warn}; }}
QLabel[tone="bad"] {{ color: {bad}; }}

QPushButton, QToolButton {{
    background: {surface}; color: {text}; border: 1px solid {line}; border-radius: 6px; padding: 0
    12px; min-height: 30px;
}}
QPushButton:hover, QToolButton:hover {{ background: {field}; }}
QPushButton:pressed, QToolButton:pressed {{ background: {hover}; }}
QPushButton:focus, QToolButton:focus {{ border-color: {muted}; }}
QPushButton:disabled, QToolButton:disabled {{ color: {faint}; }}
QPushButton::menu-indicator, QToolButton::menu-indicator {{
    image: url(icons:chevron-down.svg); width: 14px; height: 14px; subcontrol-origin: padding;
    subcontrol-position: center right; right: 8px;
}}
QPushButton[menu="true"], QToolButton[menu="true"] {{ padding-right: 28px; }}
QPushButton[role="primary"] {{
    background: {student}; color: {on_student}; border-color: {student}; padding: 0 16px;
    font-weight: 600;
}}
QPushButton[role="primary"]:hover {{ background: {student_hover}; border-color: {student_hover}; }}
QPushButton[role="primary"]:focus {{ border-color: {text}; }}
QPushButton[role="primary"]:disabled {{ background: {hover}; color: {faint}; border-color: {hover}; }}
QPushButton[role="danger"] {{ color: {bad}; }}
QPushButton[role="quiet"], QToolButton[role="quiet"] {{
    background: transparent; border-color: transparent; color: {muted}; padding: 0 8px;
}}
QPushButton[role="quiet"]:hover, QToolButton[role="quiet"]:hover {{ background: {field}; color: {text}; }}
QPushButton[role="quiet"]:focus, QToolButton[role="quiet"]:focus {{ border-color: {muted}; }}
QPushButton[role="quiet"]:disabled, QToolButton[role="quiet"]:disabled {{
    color: {faint}; background: transparent;
}}
QPushButton[role="icon"], QToolButton[role="icon"] {{
    background: transparent; border-color: transparent; padding: 0; min-height: 24px; max-height:
    24px; min-width: 24px; max-width: 24px;
}}
QPushButton[role="icon"]:hover, QToolButton[role="icon"]:hover {{ background: {field}; }}
QPushButton[role="icon"]:focus, QToolButton[role="icon"]:focus {{ border-color: {muted}; }}
QPushButton[role="pill"] {{
    background: {field}; border-color: transparent; border-radius: 11px; padding: 0 10px;
    min-height: 20px; max-height: 20px;
}}
QPushButton[role="pill"]:hover {{ background: {hover}; }}
QPushButton[role="pill"]:focus {{ border-color: {muted}; }}
QPushButton[role="segment"] {{
    background: transparent; color: {muted}; border: 1px solid transparent; border-radius: 10px;
    padding: 0 8px;
    min-height: 18px; max-height: 18px;
}}
QPushButton[role="segment"]:hover {{ color: {text}; }}
QPushButton[role="segment"]:checked {{ background: {segment}; color: {text}; }}
QPushButton[role="segment"]:focus {{ border-color: {muted}; }}
QPushButton[role="segment"]:disabled {{ color: {faint}; }}
QPushButton[role="section"] {{
    background: transparent; border: 1px solid transparent; color: {muted}; padding: 0;
    min-height: 22px; text-align: left;
}}
QPushButton[role="section"]:hover {{ color: {text}; }}
QPushButton[role="section"]:focus {{ border-color: {line}; }}

QLineEdit, QSpinBox, QDoubleSpinBox, QComboBox, QPlainTextEdit, QTextEdit {{
    background: {field}; color: {text}; border: 1px solid {field}; border-radius: 6px; padding: 0
    8px; min-height: 28px;
    selection-background-color: {teacher}; selection-color: {surface};
}}
QLineEdit:hover, QSpinBox:hover, QDoubleSpinBox:hover, QComboBox:hover {{ border-color: {line}; }}
QLineEdit:focus, QSpinBox:focus, QDoubleSpinBox:focus, QComboBox:focus, QPlainTextEdit:focus,
QTextEdit:focus {{
    border-color: {muted};
}}
QLineEdit:disabled, QSpinBox:disabled, QDoubleSpinBox:disabled, QComboBox:disabled {{ color: {faint}; }}
QLineEdit[invalid="true"], QSpinBox[invalid="true"], QDoubleSpinBox[invalid="true"],
QComboBox[invalid="true"] {{
    border-color: {bad};
}}
QComboBox {{ padding-right: 0; combobox-popup: 0; }}
QComboBox::drop-down {{ border: none; width: 22px; }}
QComboBox::down-arrow {{ image: url(icons:chevron-down.svg); width: 14px; height: 14px; }}
QComboBox QAbstractItemView {{
    background: {surface}; border: 1px solid {line}; outline: none; padding: 4px;
}}
QComboBox QAbstractItemView::item {{ min-height: 26px; padding: 0 6px; border: none; }}
QComboBox QAbstractItemView::item:disabled {{ color: {muted}; }}
QComboBox QAbstractItemView::item:selected {{ background: {field}; color: {text}; }}
QAbstractItemView {{ selection-background-color: {hover}; selection-color: {text}; }}
QSpinBox::up-button, QDoubleSpinBox::up-button, QSpinBox::down-button, QDoubleSpinBox::down-button
{{
    border: none; background: transparent; width: 18px;
}}
QSpinBox::up-arrow, QDoubleSpinBox::up-arrow {{
    image: url(icons:chevron-up.svg); width: 12px; height: 12px;
}}
QSpinBox::down-arrow, QDoubleSpinBox::down-arrow {{
    image: url(icons:chevron-down.svg); width: 12px; height: 12px;
}}

QCheckBox, QRadioButton {{ background: transparent; spacing: 8px; }}
QCheckBox:disabled {{ color: {faint}; }}
QCheckBox::indicator {{
    width: 14px; height: 14px; border: 1px solid {faint}; border-radius: 4px; background: {surface};
}}
QCheckBox::indicator:hover, QCheckBox::indicator:focus {{ border-color: {muted}; }}
QCheckBox::indicator:checked {{
    background: {student}; border-color: {student}; image: url(icons:check.svg);
}}
QCheckBox::indicator:disabled {{ border-color: {line}; }}
QCheckBox:focus {{ outline: none; }}

QWidget[role="inset"] QComboBox, QWidget[role="inset"] QLineEdit, QWidget[role="inset"] QSpinBox {{
    background: {surface}; border-color: {line};
}}
QWidget[role="inset"] QComboBox:focus, QWidget[role="inset"] QLineEdit:focus,
QWidget[role="inset"] QSpinBox:focus {{ border-color: {muted}; }}

QMenuBar {{ background: {surface}; color: {text}; padding: 1px 8px; }}
QMenuBar::item {{ background: transparent; padding: 4px 8px; border-radius: 4px; }}
QMenuBar::item:selected {{ background: {field}; }}
QMenu {{ background: {surface}; color: {text}; border: 1px solid {line}; padding: 4px; }}
QMenu::item {{ padding: 6px 24px 6px 12px; border-radius: 4px; }}
QMenu::item:selected {{ background: {field}; }}
QMenu::item:disabled {{ color: {faint}; }}
QMenu::separator {{ height: 1px; background: {line}; margin: 4px 8px; }}
QStatusBar {{ background: {surface}; color: {muted}; border-top: 1px solid {line}; }}
QStatusBar::item {{ border: none; }}

QTableView, QListView, QTreeView, QTableWidget, QListWidget {{
    background: {surface}; color: {text}; border: none; outline: none; gridline-color: {line};
    alternate-background-color: {surface};
}}
QTableView::item:selected, QListView::item:selected, QTreeView::item:selected {{
    background: {field}; color: {text};
}}
QHeaderView {{ background: transparent; }}
QHeaderView::section {{
    background: {surface}; color: {muted}; border: none; border-bottom: 1px solid {line}; padding:
    4px 6px;
}}
QTableCornerButton::section {{ background: {surface}; border: none; }}

QScrollArea, QScrollArea > QWidget > QWidget[role="pane"] {{ background: transparent; border: none; }}
QScrollBar:vertical {{ background: transparent; width: 8px; margin: 0; }}
QScrollBar:horizontal {{ background: transparent; height: 8px; margin: 0; }}
QScrollBar::handle {{ background: {line}; border-radius: 4px; min-height: 28px; min-width: 28px; }}
QScrollBar::handle:hover {{ background: {faint}; }}
QScrollBar::add-line, QScrollBar::sub-line, QScrollBar::add-page, QScrollBar::sub-page {{
    background: transparent; border: none; width: 0; height: 0;
}}
QSplitter::handle {{ background: transparent; }}
QProgressBar {{ background: {line}; border: none; border-radius: 2px; max-height: 4px; min-height: 4px; }}
QProgressBar::chunk {{ background: {student}; border-radius: 2px; }}
QTabBar::tab {{ background: transparent; color: {muted}; padding: 4px 10px; border-radius: 10px; }}
QTabBar::tab:selected {{ background: {field}; color: {text}; }}
QTabWidget::pane {{ border: none; }}
"""


def sheet(tokens: Tokens) -> str:
    """The application's style sheet; `icons:` is a search path that `apply` sets."""
    student = QColor(tokens.student)
    lit = student.lighter(112) if tokens.dark else student.darker(110)
    segment = tokens.hover if tokens.dark else "#EEEEEA"
    return _SHEET.format(**vars(tokens), student_hover=lit.name(), segment=segment)


def palette(tokens: Tokens) -> QPalette:
    """The same colours for what no style sheet reaches: item views, menus of pyqtgraph."""
    made = QPalette()
    roles = {
        QPalette.ColorRole.Window: tokens.ground,
        QPalette.ColorRole.Base: tokens.surface,
        QPalette.ColorRole.AlternateBase: tokens.field,
        QPalette.ColorRole.Button: tokens.surface,
        QPalette.ColorRole.WindowText: tokens.text,
        QPalette.ColorRole.Text: tokens.text,
        QPalette.ColorRole.ButtonText: tokens.text,
        QPalette.ColorRole.ToolTipBase: tokens.surface,
        QPalette.ColorRole.ToolTipText: tokens.text,
        QPalette.ColorRole.PlaceholderText: tokens.faint,
        QPalette.ColorRole.BrightText: tokens.bad,
        QPalette.ColorRole.Highlight: tokens.teacher,
        QPalette.ColorRole.HighlightedText: tokens.surface,
        QPalette.ColorRole.Link: tokens.teacher,
        QPalette.ColorRole.LinkVisited: tokens.teacher,
        QPalette.ColorRole.Light: tokens.surface,
        QPalette.ColorRole.Midlight: tokens.line,
        QPalette.ColorRole.Mid: tokens.line,
        QPalette.ColorRole.Dark: tokens.faint,
        QPalette.ColorRole.Shadow: tokens.line,
    }
    for role, color in roles.items():
        made.setColor(role, QColor(color))
    for role in (QPalette.ColorRole.WindowText, QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText):
        made.setColor(QPalette.ColorGroup.Disabled, role, QColor(tokens.faint))
    return made
