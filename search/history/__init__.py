"""What happened, and that nothing of it is lost: the record of a search, here and in storage.

For others: Book and Trial, History and read_book, Folder and Home, driving, requests.
All else about a search (study, rungs, MLflow runs) is a view that can be made again from it.
Imports nothing of search but its errors.
"""
