"""Upload policies: confidence scores, hard-input mining, exploration and thresholds."""
