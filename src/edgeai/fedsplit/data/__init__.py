"""Data sets as tensors: scikit-learn's digits, and readers for npz, idx, image folders, CSV, audio and Hugging Face."""
