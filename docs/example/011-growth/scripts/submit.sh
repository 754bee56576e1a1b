#!/bin/bash
# experiments/011-growth/scripts/submit.sh
# [[experiments.011-growth.scripts.submit]]
# https://github.com/Mjvolk3/torchcell/tree/main/experiments/011-growth/scripts/submit.sh
# Check launchers, pin the code that they run, and submit them, all or none, from any directory.
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "submit.sh: this is bash $BASH_VERSION. Use bash 4.4 or newer." >&2
  exit 1
fi
set -euo pipefail
shopt -s extglob

readonly experiment=experiments/011-growth
readonly package=torchcell # beside experiments/ or in src/; pinned with the experiment

unset CDPATH # with it, cd prints
scripts=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
readonly scripts
# shellcheck source=runtime/arguments.sh
source "$scripts/runtime/arguments.sh"
# shellcheck source=runtime/pin.sh
source "$scripts/runtime/pin.sh"
# shellcheck source=runtime/checks.sh
source "$scripts/runtime/checks.sh"

main() {
  account=${SBATCH_ACCOUNT-}
  drop_inherited_variables
  locate_experiment
  parse_arguments "$@"
  make_temporary_folder
  if [[ ${request[mode]} == prune ]]; then
    prune
    exit
  fi
  refuse_options
  find_launchers
  if [[ ${request[live]} ]]; then use_working_tree; else pin; fi
  check_launchers
  if [[ ${request[mode]} == check ]]; then
    print_warnings
    printf '%s: ready\n' "${launchers[@]}"
    exit
  fi
  # In a script without conf/runtime.yaml Hydra writes below these. In the copy they are links.
  if [[ $writes_outputs ]]; then
    require_writable "$root/outputs"
    require_writable "$root/multirun"
  fi
  if [[ ! ${request[live]} ]]; then publish; fi
  submit_all
  print_warnings
  print_commit
}

# One line on stderr, and the end.
die() { # WORD...
  local -r message=$*
  printf 'submit.sh: %s\n' "${message//$'\n'/; }" >&2
  exit 1
}

# Keep a line for stderr, printed once nothing was refused.
warn() { # WORD...
  warnings+=("$*")
}

print_warnings() {
  local warning
  for warning in "${warnings[@]}"; do printf 'submit.sh: %s\n' "${warning//$'\n'/; }" >&2; done
}

# Slurm takes every option from a variable, too; in a job those of that job are set, and in a git hook those of git.
drop_inherited_variables() {
  local name
  for name in "${!SBATCH_@}" "${!SLURM_@}"; do
    if [[ $name != SLURM_CONF ]]; then unset "$name"; fi
  done
  command -v sbatch > /dev/null || die "no sbatch here; submit from a machine of the cluster"
  command -v git > /dev/null || die "no git here"
  for name in $(git rev-parse --local-env-vars); do unset "$name"; done
}

locate_experiment() {
  root=${scripts%"/$experiment/scripts"}
  [[ $root != "$scripts" ]] || die "this is not in $experiment/scripts: $scripts"
  [[ ! -e $root/submitted.json ]] || die "this is code that was submitted; submit from the experiment itself"
  [[ $root != *[[:cntrl:]\\]* ]] || die "Slurm writes no log to a path with such a character: $(printf %q "$root")"
  folder=$root/$experiment
  logs=$folder/slurm/output
  readonly root folder logs
}

# Make a folder where it is missing, and try to write in it.
require_writable() { # FOLDER
  local probe
  [[ ! -L $1 || -e $1 ]] || die "$1 is a link to nowhere; make its folder"
  mkdir -p -- "$1" 2> /dev/null || die "$1 cannot be made"
  # mktemp follows no link, and nobody can foresee the name.
  probe=$(mktemp -- "$1/.submit.XXXXXXXXXX" 2> /dev/null) || die "$1 cannot be written"
  rm -f -- "$probe"
}

# Set `code`, where pinned code is kept, and `work`, a folder in it for this submission alone.
make_temporary_folder() {
  require_writable "$logs"
  require_writable "$folder/results"
  require_writable "$folder/slurm/code"
  code=$(cd -P -- "$folder/slurm/code" && pwd -P)
  [[ $code != *[[:cntrl:]\\]* ]] || die "Slurm runs no job in a path with such a character: $(printf %q "$code")"
  work=$(mktemp -d -- "$code/.new.XXXXXXXXXX" 2>&1) || die "$work"
  readonly code work
  trap clean_up EXIT
}

# Remove what belongs to no job: the temporary folder, and receipts of launchers that were not submitted.
clean_up() {
  local receipt
  remove "$work"
  for receipt in "${receipts[@]}"; do
    if [[ ! -e $receipt/job ]]; then remove "$receipt"; fi
  done
}

# Submission -----------------------------------------------------------------------------------------------------------

submit_all() {
  local launcher receipt answer job number
  local -a words
  for launcher in "${launchers[@]}"; do
    receipt=$(write_receipt "$launcher")
    receipts+=("$receipt")
  done
  trap 'interrupted=yes' INT TERM HUP
  for number in "${!launchers[@]}"; do
    launcher=${launchers[number]}
    list_sbatch_words "$launcher" "${receipts[number]}" words
    # sbatch itself ignores signals: ended after Slurm took the job, it would leave one that nobody knows of.
    answer=$(trap '' INT TERM HUP && exec sbatch --parsable "${words[@]}" 2> "$work/sbatch" < /dev/null) \
      || take_back "$launcher: $(< "$work/sbatch")"
    job=$(grep -m 1 -oE '^[0-9]+' <<< "$answer") || take_back "$launcher: sbatch printed no job: $answer"
    jobs+=("$job")
    { printf '%s\n' "$job" > "${receipts[number]}/job"; } 2> "$work/said" || take_back "$launcher: $(< "$work/said")"
    [[ -d $place ]] || take_back "$launcher: $place is gone; submit again"
    [[ ! $interrupted || $launcher == "${launchers[-1]}" ]] || take_back "interrupted"
    [[ ! -s $work/sbatch ]] || warn "$launcher: $(< "$work/sbatch")"
    print_job "$launcher" "$job"
  done
}

# Write what is submitted: a job, and a submission of it again, read only this. Print the receipt's folder.
write_receipt() { # LAUNCHER
  local receipt
  receipt=$folder/slurm/submitted/$(date +%Y-%m-%d-%H-%M-%S)-$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')
  {
    mkdir -p -- "${receipt%/*}" && mkdir -- "$receipt" \
      && printf '%s\n' "$1" > "$receipt/launcher" \
      && printf '%s\n' "$commit" > "$receipt/commit" \
      && printf '%s\n' "$([[ $dirty ]] && echo true || echo false)" > "$receipt/dirty" \
      && print_words "${overrides[@]}" > "$receipt/words" \
      && print_words "${options[@]}" > "$receipt/options" \
      && if [[ -e $work/inputs/$1 ]]; then cp -- "$work/inputs/$1" "$receipt/inputs"; fi
  } 2> "$work/said" || die "$receipt cannot be written: $(< "$work/said")"
  printf '%s\n' "$receipt"
}

print_words() { # WORD...
  if (($#)); then printf '%s\0' "$@"; fi
}

# What sbatch is given for a launcher, as an array.
list_sbatch_words() { # LAUNCHER RECEIPT RESULT
  local -n result=$3
  local -r file=$tree/$experiment/scripts/$1.slurm
  local name=%x_%j.out
  if [[ ${slurm_options[$1 array]-} ]]; then name=%x_%A_%a.out; fi
  result=(--chdir="$place" --output="${logs//%/%%}/$name" --error="${logs//%/%%}/$name")
  if [[ ! ${slurm_options[$1 comment]-} ]]; then result+=(--comment="$commit${request[live]:+${dirty:+-dirty}}"); fi
  if [[ $account && ! ${slurm_options[$1 account]-} ]]; then result+=(--account="$account"); fi
  result+=("${options[@]}" "$file")
  if is_from_template "$file"; then result+=(--submission="$2"); fi
  result+=("${overrides[@]}")
}

# Cancel what is submitted already, and name what could not be.
take_back() { # REASON
  local message
  if [[ ! ${jobs[*]-} ]]; then die "$1"; fi
  message=$(scancel "${jobs[@]}" 2>&1) || die "$1; still queued, since scancel failed (${message#scancel: }): ${jobs[*]}"
  die "$1; cancelled: ${jobs[*]}"
}

# Print where a job's log is. Slurm knows the job's real name, and whether it has tasks.
print_job() { # LAUNCHER JOB
  local name tasks end=''
  IFS='|' read -r tasks name < <(squeue --noheader --states=all --jobs="$2" --format='%K|%j' 2> /dev/null | head -n 1) || true
  if [[ $tasks != N/A ]]; then end='_*'; fi
  printf '%s: job %s\n' "$1" "$2"
  printf '  log    %s%s.out\n' "$logs/${name}_$2" "$end"
  printf '  watch  tail -F %q%s.out\n' "$logs/${name}_$2" "$end"
}

print_commit() {
  local where=''
  if [[ $PWD/ != "$root"/* ]]; then where=" -C $(printf %q "$root")"; fi
  if [[ ${request[live]} ]]; then
    printf 'commit %s%s, live: the jobs run what is in %s when they start\n' "$commit" "${dirty:+-dirty}" "$root"
  elif [[ $dirty ]]; then
    printf 'commit %s has your uncommitted changes: git%s show %s\n' "$commit" "$where" "$commit"
  else
    printf 'commit %s\n' "$commit"
  fi
}

warnings=() jobs=() receipts=() interrupted='' writes_outputs=''
declare -A slurm_options # by "LAUNCHER OPTION", as Slurm reads them
main "$@"
