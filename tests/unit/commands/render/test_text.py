from edgeai.commands.render.text import print_blocks, print_fields, print_table
from edgeai.core.report.blocks import Figure, Heading, Number, Paragraph, Table


def test_table_sets_numbers_right_and_keeps_brackets(capsys):
    print_table(["name", "n"], [["[a]", 5], ["b", 1234.5678], ["c", None], ["d", Number(1e6, "1 M")]])
    lines = ["name     n", "[a]      5", "b     1235", "c        -", "d      1 M"]
    assert capsys.readouterr().out.splitlines() == lines


def test_fields(capsys):
    print_fields({"a": 1, "long": None, "b": True})
    assert capsys.readouterr().out == "a     1\nlong  -\nb     yes\n"


def test_blocks_are_printed_in_order_and_pictures_left_out(capsys):
    table = Table(("x",), [[1]], caption="About x.")
    print_blocks([Paragraph("One."), Heading("Two"), table, Figure("<svg/>", "seen", "seen"), Paragraph("Three.")])
    assert capsys.readouterr().out == "One.\n\nTwo\nx\n1\nAbout x.\n\nThree.\n"
