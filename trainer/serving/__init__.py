"""Scores raw features with an exported model (docs/export.md); needs neither config nor TorchRec.

scorer = load_scorer("exported/demo")
scorer.score({"user_id": 7, "item_id": [3, 5], "price": [9.5, 2.0]})["probs1"]
"""

from trainer.serving.scorer import Scorer, load_scorer

__all__ = ["Scorer", "load_scorer"]
