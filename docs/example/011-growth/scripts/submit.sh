#!/bin/bash
# experiments/011-growth/scripts/submit.sh
# [[experiments.011-growth.scripts.submit]]
# https://github.com/Mjvolk3/torchcell/tree/main/experiments/011-growth/scripts/submit.sh
# Checks launchers, then submits them, all or none, from any directory:
#   bash experiments/011-growth/scripts/submit.sh [--dry-run] LAUNCHER... [-- SBATCH_OPTION...]
set -euo pipefail
stop() { printf 'submit.sh: %s\n' "${*//$'\n'/; }" >&2 && exit 1; }

experiment=experiments/011-growth
scripts=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "${scripts%/"$experiment/scripts"}"
launchers=() jobs=() dry_run=
while (($#)) && [[ $1 != -- ]]; do
  if [[ $1 == --dry-run ]]; then dry_run=yes; else launchers+=("$(basename "$1" .slurm)"); fi
  shift
done
options=("${@:2}")
[[ ${launchers[*]-} ]] || stop "which launcher? $(cd "$scripts" && echo *.slurm)"
command -v sbatch > /dev/null || stop "no sbatch here; submit from a machine of the cluster"
commit=$(git describe --always --dirty 2>&1) || stop "no commit to record: $commit"

setting() { # NAME: its value in .env, as python-dotenv reads it; the environment wins
  local value=${!1-} clean="s/^\"([^\"]*)\".*|^'([^']*)'.*/\1\2/; t p; s/\s+(#.*)?$//; :p p"
  [[ ${!1+set} || ! -f .env ]] || value=$(sed -nE "s/^\s*(export\s+)?$1\s*=\s*//; T; $clean" .env | tail -n 1)
  [[ ! $value =~ \$\{([A-Za-z0-9_]+)\} ]] || value=${value//"${BASH_REMATCH[0]}"/$(setting "${BASH_REMATCH[1]}")}
  printf '%s' "$value"
}
for name in DATA_ROOT ASSET_IMAGES_DIR EXPERIMENT_ROOT; do
  folder=$(setting $name)
  [[ $folder ]] || stop "$name is not set; set it in $PWD/.env"
  (: > "$folder/.submit.$$" && rm "$folder/.submit.$$") 2> /dev/null || stop "$name cannot be written: $folder"
done
[[ $folder/011-growth -ef $experiment ]] || stop "EXPERIMENT_ROOT does not hold $PWD/$experiment: $folder"
mkdir -p "$experiment/slurm/output" 2> /dev/null || stop "$experiment/slurm/output is a link to nowhere; make its folder"
for name in "${!SLURM_@}"; do [[ $name == SLURM_CONF ]] || unset "$name"; done # of the job that this may run in

submit() { # LAUNCHER OPTION: sbatch it; sets message, and the log's name around the job's id
  local file=$experiment/scripts/$1.slurm id=%j
  log=$PWD/$experiment/slurm/output/$(sed -n 's/^#SBATCH --job-name=//p' "$file")_ end=.out
  if [[ " ${options[*]}" == *" "@(-a|--array)* ]] || grep -qE '^#SBATCH (-a|--array)' "$file"; then id=%A end=_%a.out; fi
  set -- "$2" --comment="$commit" "${options[@]}" --chdir="$PWD" --{output,error}="${log//\%/%%}$id$end" "$file"
  message=$(sbatch "$@" 2>&1)
}
for launcher in "${launchers[@]}"; do
  file=$experiment/scripts/$launcher.slurm
  [[ -f $file ]] || stop "no launcher $PWD/$file"
  config=$(sed -nE 's/.*(--config-name[= ]|\/conf\/)([A-Za-z0-9_-]+).*/\2/p' "$file")
  [[ -f $experiment/conf/$config.yaml ]] || stop "$launcher: no configuration $experiment/conf/$config.yaml"
  line=$(awk '/^[ \t]+#SBATCH/ || /^#SBATCH/ && command {print FNR; exit} !/^[ \t]*(#|$)/ {command = 1}' "$file")
  [[ ! $line ]] || stop "$launcher: Slurm ignores line $line, an #SBATCH with a blank before it or a command above it"
  message=$(bash -n "$file" 2>&1 && sed -n '/^: /p' "$file" | bash 2>&1) || stop "$launcher: ${message#bash: line 1: }"
  submit "$launcher" --test-only || stop "$launcher: $message"
done
[[ ! $dry_run ]] || { printf '%s: ready\n' "${launchers[@]}" && exit; }
for launcher in "${launchers[@]}"; do
  submit "$launcher" --parsable || { [[ ! ${jobs[*]} ]] || scancel "${jobs[@]}"; stop "$launcher: $message"; }
  job=${message##*$'\n'} && jobs+=("${job%%;*}")
  printf '%s: job %s\n  log    %s\n  watch  tail -F %q%s\n' "$launcher" "$job" "$log$job${end/\%a/*}" "$log$job" "${end/\%a/*}"
done
