"""Training text: prompts, dialogues, the target's answers, and the target's features of them."""
