"""Answers of models for others: receipts that anyone can check, and a server that speaks OpenAI's completions."""
