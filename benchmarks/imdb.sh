#!/usr/bin/env bash
# One training on long English reviews, judged once on a fifth of them that it never saw:
#   benchmarks/imdb.sh REVIEWS.parquet FOLDER
set -euo pipefail
reviews=$1 folder=$2
python -m lstmcls.prepare "$reviews" --split 0.75,0.05,0.2 --max-length 1000 --out "$folder/data"
time python -m lstmcls.train --data "$folder/data" --out "$folder/model" --set ngrams=3 \
  --set embedding_dim=64 --set hidden_size=64 --set lr=0.004 --set epochs=3
python -m lstmcls.evaluate "$folder/model" "$folder/data"
