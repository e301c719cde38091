"""The texts models are given, as Markdown beside this file, and how their variables are filled."""
