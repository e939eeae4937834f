"""Upload policies: confidence scores, the trained miner, exploration and thresholds; `strategies` combine them."""
