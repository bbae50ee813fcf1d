import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.refine.keyframes.pairs import all_pairs, best_pairs, sequential_pairs


@given(st.integers(2, 60), st.integers(1, 10))
def test_every_keyframe_is_matched_with_those_before_it(count, neighbours):
    pairs = sequential_pairs(count, neighbours)
    assert all(0 <= i < j < count for i, j in pairs)
    assert {j - i for i, j in pairs} >= set(range(1, min(neighbours, count - 1) + 1))
    assert pairs <= all_pairs(count)


def test_the_most_similar_unknown_pair_is_chosen():
    similarity = np.array([[9, 5, 3, 0], [5, 9, 4, 0], [3, 4, 9, 0], [0, 0, 0, 9]], float)
    assert best_pairs(similarity, 1, {(0, 1)}) == {(0, 2), (1, 2)}
    assert best_pairs(similarity, 5, set()) == {(0, 1), (0, 2), (1, 2)}
    assert best_pairs(similarity, 0, set()) == set()
