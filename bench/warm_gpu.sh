#!/usr/bin/env bash
# Makes a card that is rented by the minute ready to measure, in two or three minutes:
#
#   bash bench/warm_gpu.sh OUT [AUTORESEARCH]
#   python -m bench.gpu --cache OUT/cache --data OUT/texts --reference AUTORESEARCH --keep OUT/rows.jsonl
#
# Side by side: texts of this machine become data (bench/texts.py), each founder and a child that differs
# in a fraction are compiled, trained for a few steps and scored, the reference is compiled, and the tests
# that need a card run. What comes of it lies in OUT; rows.jsonl is added to as trainings end, so nothing
# is lost with the machine. PYTHON, BYTES (of text), STEPS and MORE (options of bench.gpu) may be set.
set -u
mkdir -p "${1:?where? usage: bash bench/warm_gpu.sh OUT [AUTORESEARCH]}/hides" || exit 2
OUT=$(cd "$1" && pwd) || exit 2
REFERENCE=${2:-}
[ -z "$REFERENCE" ] || REFERENCE=$(cd "$REFERENCE" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 2
PYTHON=${PYTHON:-python3}; BYTES=${BYTES:-1e9}; STEPS=${STEPS:-60}; MORE=${MORE:-}
SCALE=$([[ $MORE == *--small* ]] && echo cpu || echo gpu)

# A trial waits until nobody computes on its card and bills what others compute there; here they are meant to.
cat >"$OUT/hides/nvidia-smi" <<END
#!/bin/sh
case "\$*" in *compute-apps*|*utilization.gpu*) exit 0;; esac
exec $(command -v nvidia-smi || echo false) "\$@"
END
chmod +x "$OUT/hides/nvidia-smi"

trap 'trap - TERM; kill -TERM -- -$$ 2>/dev/null; exit 130' INT TERM  # jobs in the background go with it
began=$(date +%s)
said() { echo "$(($(date +%s) - began)) s: $*" | tee -a "$OUT/warm.log"; }
data() { "$PYTHON" -m bench.texts "$OUT/$1" --bytes "$2" &&
    "$PYTHON" prepare.py --scale "$SCALE" --data "$OUT/$1" --cache "$OUT/cache"; }
founder() { "$PYTHON" -m bench.gpu --cache "$OUT/cache" --data "$OUT/few" --budget "${STEPS}steps" --seeds 1 \
    --programs "seeds/gpu/$1.py" --set "$2" --keep "$OUT/warm.jsonl" $MORE; }
reference() { "$PYTHON" -m bench.gpu_reference "$REFERENCE" --seed 0 --seconds 3 \
    --data "$(ls -d "$OUT"/cache/few-*)" --log "$OUT/reference.txt"; }
beside() { local name=$1; shift; { "$@"; said "$name ended with $?"; } >"$OUT/$name.log" 2>&1 & }

beside texts data texts "$BYTES"
data few 3e7 >"$OUT/few.log" 2>&1 || { tail -n 3 "$OUT/few.log"; kill -TERM %1; exit 1; }
export PATH="$OUT/hides:$PATH"
beside tests "$PYTHON" -m pytest -m gpu -q --durations 0 -o filterwarnings= tests/evaluate/test_compiled.py \
    tests/evaluate/test_sandbox.py tests/seeds tests/bench/test_gpu_reference.py
both() { founder gpt SOFTCAP=14.0; founder hybrid SOFTCAP=14.0; }
wide=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits 2>/dev/null | head -1)
room() { [ "${wide:-0}" -gt 130000 ] || wait; }  # for three programs at once, of 30 to 45 GiB each
room; beside ngrams founder ngrams SOFTCAP=14.0
room; [ -z "$REFERENCE" ] || beside reference reference
room; beside founders both
wait
said ready
! grep "ended with [^0]" "$OUT/warm.log"  # whose log tells why
