"""Towpath's Grafana dashboards, as code: `python -m dashboards` in `deploy/grafana` writes `json/`.

The one rule: a dashboard answers one question of somebody on call; what nobody would act on is not drawn.
"""
