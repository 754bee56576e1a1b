#!/bin/bash
# experiments/011-growth/scripts/submit.sh
# [[experiments.011-growth.scripts.submit]]
# https://github.com/Mjvolk3/torchcell/tree/main/experiments/011-growth/scripts/submit.sh
# Check launchers, pin the code that they run, and submit all of them or none. Works from any directory.
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "submit.sh: this is bash $BASH_VERSION. Use bash 4.4 or newer." >&2
  exit 1
fi
set -euo pipefail
shopt -s extglob

readonly experiment=experiments/011-growth
readonly package=torchcell # beside experiments/ or in src/; pinned with the experiment

unset CDPATH # with CDPATH, cd prints
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
  # Hydra writes to these folders in a script without conf/runtime.yaml. In pinned code they are links.
  if [[ $writes_outputs ]]; then
    require_writable "$root/outputs"
    require_writable "$root/multirun"
  fi
  if [[ ! ${request[live]} ]]; then publish; fi
  submit_all
  print_warnings
  print_commit
}

# Print a message in one line, and exit.
die() { # WORD...
  local -r message=$*
  printf 'submit.sh: %s\n' "${message//$'\n'/; }" >&2
  exit 1
}

# Record a warning. It is printed when no check has failed.
warn() { # WORD...
  warnings+=("$*")
}

print_warnings() {
  local warning
  for warning in "${warnings[@]}"; do printf 'submit.sh: %s\n' "${warning//$'\n'/; }" >&2; done
}

# Unset variables that sbatch would read as options. A job has such variables of its own, and a git hook those of git.
drop_inherited_variables() {
  local name
  for name in "${!SBATCH_@}" "${!SLURM_@}"; do
    if [[ $name != SLURM_CONF ]]; then unset "$name"; fi
  done
  command -v sbatch > /dev/null || die "sbatch is not installed here. Submit from a machine of the cluster."
  command -v git > /dev/null || die "git is not installed here"
  for name in $(git rev-parse --local-env-vars); do unset "$name"; done
}

locate_experiment() {
  root=${scripts%"/$experiment/scripts"}
  [[ $root != "$scripts" ]] || die "this script must be in $experiment/scripts, but is in $scripts"
  [[ ! -e $root/submitted.json ]] || die "this is a pinned copy. Submit from the experiment itself."
  [[ $root != *[[:cntrl:]\\]* ]] \
    || die "Slurm cannot write logs to a path with a control character or a backslash: $(printf %q "$root")"
  folder=$root/$experiment
  logs=$folder/slurm/output
  readonly root folder logs
}

# Make a folder if it is missing, and check that it can be written.
require_writable() { # FOLDER
  local probe
  [[ ! -L $1 || -e $1 ]] || die "$1 is a link to a missing folder. Make that folder."
  mkdir -p -- "$1" 2> /dev/null || die "$1 cannot be made"
  # mktemp does not follow links, and its random name cannot be predicted.
  probe=$(mktemp -- "$1/.submit.XXXXXXXXXX" 2> /dev/null) || die "$1 cannot be written"
  rm -f -- "$probe"
}

# Set `code`, the folder of all pinned code, and `work`, a temporary folder in it for this submission.
make_temporary_folder() {
  require_writable "$logs"
  require_writable "$folder/results"
  require_writable "$folder/slurm/code"
  code=$(cd -P -- "$folder/slurm/code" && pwd -P)
  [[ $code != *[[:cntrl:]\\]* ]] \
    || die "Slurm cannot run jobs in a path with a control character or a backslash: $(printf %q "$code")"
  work=$(mktemp -d -- "$code/.new.XXXXXXXXXX" 2>&1) || die "$work"
  readonly code work
  trap clean_up EXIT
}

# Remove the temporary folder, and the receipts of launchers that were not submitted.
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
    # sbatch must ignore signals: if it ended right after Slurm accepted the job, the job's number would be lost.
    answer=$(trap '' INT TERM HUP && exec sbatch --parsable "${words[@]}" 2> "$work/sbatch" < /dev/null) \
      || rollback "$launcher: $(< "$work/sbatch")"
    job=$(grep -m 1 -oE '^[0-9]+' <<< "$answer") || rollback "$launcher: sbatch printed no job: $answer"
    jobs+=("$job")
    { printf '%s\n' "$job" > "${receipts[number]}/job"; } 2> "$work/error" || rollback "$launcher: $(< "$work/error")"
    [[ -d $job_folder ]] || rollback "$launcher: $job_folder was removed in the meantime. Submit again."
    [[ ! $interrupted || $launcher == "${launchers[-1]}" ]] || rollback "interrupted"
    [[ ! -s $work/sbatch ]] || warn "$launcher: $(< "$work/sbatch")"
    print_job "$launcher" "$job"
  done
}

# Write the receipt, which records what is submitted, and print its folder. The job reads it.
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
  } 2> "$work/error" || die "$receipt cannot be written: $(< "$work/error")"
  printf '%s\n' "$receipt"
}

print_words() { # WORD...
  if (($#)); then printf '%s\0' "$@"; fi
}

# Set the array RESULT to sbatch's arguments for a launcher.
list_sbatch_words() { # LAUNCHER RECEIPT RESULT
  local -n result=$3
  local -r file=$tree/$experiment/scripts/$1.slurm
  local name=%x_%j.out
  if [[ ${slurm_options[$1 array]-} ]]; then name=%x_%A_%a.out; fi
  result=(--chdir="$job_folder" --output="${logs//%/%%}/$name" --error="${logs//%/%%}/$name")
  if [[ ! ${slurm_options[$1 comment]-} ]]; then result+=(--comment="$commit${request[live]:+${dirty:+-dirty}}"); fi
  if [[ $account && ! ${slurm_options[$1 account]-} ]]; then result+=(--account="$account"); fi
  result+=("${options[@]}" "$file")
  if is_from_template "$file"; then result+=(--submission="$2"); fi
  result+=("${overrides[@]}")
}

# Cancel the jobs that were submitted already, and exit. Print the jobs that could not be cancelled.
rollback() { # REASON
  local message
  if [[ ! ${jobs[*]-} ]]; then die "$1"; fi
  message=$(scancel "${jobs[@]}" 2>&1) || die "$1; still queued, since scancel failed (${message#scancel: }): ${jobs[*]}"
  die "$1; cancelled: ${jobs[*]}"
}

# Print a job and the path of its log. Only Slurm knows the job's final name, and whether it has tasks.
print_job() { # LAUNCHER JOB
  local name tasks all='' first=''
  IFS='|' read -r tasks name < <(squeue --noheader --states=all --jobs="$2" --format='%K|%j' 2> /dev/null | head -n 1) || true
  tasks=${tasks#[}
  if [[ $tasks != N/A ]]; then all='_*' first=_${tasks%%[!0-9]*}; fi
  printf '%s: job %s\n' "$1" "$2"
  printf '  log    %s%s.out\n' "$logs/${name}_$2" "$all"
  printf '  watch  tail -F %q.out\n' "$logs/${name}_$2$first"
}

print_commit() {
  local where=''
  if [[ $PWD/ != "$root"/* ]]; then where=" -C $(printf %q "$root")"; fi
  if [[ ${request[live]} ]]; then
    printf 'commit %s%s, live: the jobs run the files of %s as they are when they start\n' \
      "$commit" "${dirty:+-dirty}" "$root"
  elif [[ $dirty ]]; then
    printf 'commit %s has your uncommitted changes: git%s show %s\n' "$commit" "$where" "$commit"
  else
    printf 'commit %s\n' "$commit"
  fi
}

warnings=() jobs=() receipts=() interrupted='' writes_outputs=''
declare -A slurm_options # by "LAUNCHER OPTION", as Slurm reads them
main "$@"
