"""Who is alive, who breeds, who descends from whom.

Holds the nouns of the search, its loop and its memory. Imports nothing else of this project.
"""
