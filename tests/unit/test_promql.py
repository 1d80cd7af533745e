import pytest

from tests.support.promql import metrics


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("up", {"up"}),
        ('sum by (stage) (rate(a_total{verdict="b", c=~"d|e"}[5m])) / 2', {"a_total"}),
        ("a:b:rate5m > 14.4 * 0.001 and on (x, y) max by (x) (c) == 0", {"a:b:rate5m", "c"}),
        ("a offset 3h >= bool 0 unless b * on (x) group_left (z) d", {"a", "b", "d"}),
        ("histogram_quantile(0.99, sum without (x) (rate(b_bucket[$__rate_interval]))) or vector(0)", {"b_bucket"}),
        ("topk(5, a) or label_replace(b, 'to', '$1 {c}', 'from', '(.*)')", {"a", "b"}),
        ("1e3 * a > Inf", {"a"}),
    ],
)
def test_the_metrics_of_an_expression_are_told_from_all_its_other_words(expression: str, names: set[str]) -> None:
    assert metrics(expression) == names
