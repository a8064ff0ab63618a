"""The formats of annotated files. Each is a module with one class, which tells, reads and, where it can, writes its files.

table.py      what a format must be able to do; the table of all, and the choice among them by a file's content
cluener, entities                 JSON lines and arrays of entities
conll, hf, spacy_files            tokens with tags: columns, Hugging Face data sets, spaCy's JSON and DocBin
  tagging, tokens, sentences, arrow, features, docbin    schemes, joining and cutting of tokens, binary files
doccano, labelstudio, brat        what annotation tools export
  regions, brat_files, brat_writing, folder    parts of these
alpaca, sharegpt, inline          rows for LLMs, whose answers name the entities; text with entities marked in it
  answers, frame, exchange, rows, dataset_info    which answer format it is, where the sentence stands, LLaMA-Factory's list
"""
