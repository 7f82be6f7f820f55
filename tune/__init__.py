"""Distributed hyperparameter tuning for LSTM text classifiers, on Ray Tune and Optuna."""
