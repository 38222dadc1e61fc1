"""Augmentation: random changes of rows that leave what they mean, one method a file."""
