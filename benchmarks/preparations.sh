#!/usr/bin/env bash
# What the preparation of long English reviews is worth: tokenizer, vocabulary, length; two seeds
# of one training each, judged on the same 4,956 validation rows.
#   benchmarks/preparations.sh REVIEWS.parquet FOLDER
set -euo pipefail
reviews=$1 folder=$2
mkdir -p "$folder"
while read -r options; do
  data=$folder/${options//[ -]/}
  # shellcheck disable=SC2086  # options are several words
  python -m lstmcls.prepare "$reviews" $options --split 0.8,0.199,0.001 --out "$data" > "$data.log" 2>&1
  for seed in 0 1; do
    printf '%s, seed %s: ' "$options" "$seed"
    python -m lstmcls.train --data "$data" --out "$folder/model" --set ngrams=3 --set embedding_dim=64 \
      --set hidden_size=64 --set lr=0.004 --set epochs=3 --set seed="$seed" --quiet
  done
done <<'OPTIONS'
--tokenizer word --max-length 1000
--tokenizer word --max-length 400
--tokenizer word --max-length 200
--tokenizer word --max-length 1000 --vocab-size 10000
--tokenizer bpe --max-length 1000
OPTIONS
