"""An LSTM text classifier: preparation, training, evaluation and prediction.

Knows nothing of tuning: it imports neither Ray nor Optuna and is useful on its own.
"""
