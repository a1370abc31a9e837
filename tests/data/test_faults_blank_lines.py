"""A blank line of a table is no row, and no identifier is blank."""

import pytest

from l2d_jax.data import DataError, load_cifar10h_raw, load_jigsaw
from l2d_jax.data.answers import read_columns

COMMENTS = (
    "id,comment_text,identity_attack,black,transgender,other_gender,"
    "homosexual_gay_or_lesbian,bisexual,other_sexual_orientation\n"
    "1,a,0.6,0,0,0,0,0,0\n"
)
POOLS = "id,unique_contributor_id,identity_attack,rater_group\n1,r1,-1,AA\n"
BLANKS = ["", "\n", "\r\n", "  \n", "\t", "\n\n \n"]


@pytest.mark.parametrize("blank", BLANKS, ids=map(repr, BLANKS))
def test_blank_lines_are_no_rows(tmp_path, blank):
    columns = read_columns(f"a,b\n1,2\n{blank}".splitlines(True), ("b", "a"), "mine")
    assert columns == [["2"], ["1"]]
    comments, pools = tmp_path / "comments.csv", tmp_path / "pools.csv"
    comments.write_text(COMMENTS + blank, newline="")
    pools.write_text(POOLS + blank, newline="")
    found = load_jigsaw(comments_file=comments, pools_file=pools)
    assert found.texts == ("a",) and found.answers.tolist() == [[1]]
    raw = tmp_path / "raw.csv"
    head = "annotator_id,chosen_label,cifar10_test_test_idx\n"
    raw.write_text(f"{head}w,3,7\n{blank}", newline="")
    assert load_cifar10h_raw(raw).labels.tolist() == [3]


def test_a_row_of_empty_cells_is_a_row(tmp_path):
    assert read_columns(["a,b\n", ",\n"], ("a",), "mine") == [[""]]
    assert read_columns(["a\n", '""\n'], ("a",), "mine") == [[""]]


@pytest.mark.parametrize("row", [",r2,-1,AA", "1,,-1,AA", "1, ,-1,AA"])
def test_a_rater_has_an_identifier(tmp_path, row):
    comments, pools = tmp_path / "comments.csv", tmp_path / "pools.csv"
    comments.write_text(COMMENTS)
    pools.write_text(POOLS + row + "\n")
    with pytest.raises(DataError, match=r"row 2 .*(: id|contributor_id) is missing"):
        load_jigsaw(comments_file=comments, pools_file=pools)
