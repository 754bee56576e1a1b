#!/bin/bash
# experiments/011-growth/scripts/submit.sh
# [[experiments.011-growth.scripts.submit]]
# https://github.com/Mjvolk3/torchcell/tree/main/experiments/011-growth/scripts/submit.sh
# Check launchers, pin the code that they run, and submit all of them or none. Works from any directory.
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "submit.sh: this is bash $BASH_VERSION. Use bash 4.4 or newer." >&2
  exit 1
fi
# With these, bash would read this script in another way.
unset POSIXLY_CORRECT BASH_COMPAT
# Exported functions, BASH_ENV, SHELLOPTS, BASHOPTS and CDPATH of the user must not change what this script does. They
# still reach the launchers and the jobs.
if [[ ! -o privileged ]]; then exec "$BASH" -p -- "${BASH_SOURCE[0]}" "$@"; fi
set -euo pipefail
shopt -s extglob

readonly experiment=experiments/011-growth
readonly job_prefix=011
readonly package=torchcell # beside experiments/ or in src/; pinned with the experiment

scripts=${BASH_SOURCE[0]%"${BASH_SOURCE[0]##*/}"}
scripts=$(cd -P -- "${scripts:-.}" && pwd -P)
readonly scripts
# shellcheck source=runtime/arguments.sh
source "$scripts/runtime/arguments.sh"
# shellcheck source=runtime/pin.sh
source "$scripts/runtime/pin.sh"
# shellcheck source=runtime/checks.sh
source "$scripts/runtime/checks.sh"
# shellcheck source=runtime/arrays.sh
source "$scripts/runtime/arrays.sh"
# shellcheck source=runtime/again.sh
source "$scripts/runtime/again.sh"
# shellcheck source=runtime/report.sh
source "$scripts/runtime/report.sh"

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
  case ${request[action]} in
    failed)
      submit_failed "${request[run]}" "${options[@]}"
      exit
      ;;
    again | continue)
      find_receipt "${request[run]}"
      take_receipt
      pin_recorded
      ;;
    *) if [[ ${request[live]} ]]; then use_working_tree; else pin; fi ;;
  esac
  check_launchers
  if [[ ${request[action]} ]]; then compare_inputs; fi
  choose_tasks
  if [[ ${request[mode]} == check || ! ${launchers[*]-} ]]; then end_check; fi
  # Hydra writes to these folders in a script without conf/runtime.yaml. In pinned code they are links.
  if [[ $writes_outputs ]]; then
    require_writable "$root/outputs" "$root/multirun"
  fi
  if [[ ! ${request[live]} ]]; then publish; fi
  submit_all
  if [[ ${request[parsable]} ]]; then
    printf '%s\n' "${jobs[@]}"
    print_warnings
  else
    print_jobs
    print_warnings
    print_commit
  fi
}

# Print what was checked, and exit.
end_check() {
  print_warnings
  if [[ ! ${request[parsable]} ]]; then
    print_ready
  elif [[ ! ${launchers[*]-} ]]; then
    echo "submit.sh: nothing to submit: all points are finished or running" >&2
    exit 3
  fi
  exit
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

# Unset variables that change what the programs below do. A job has Slurm variables, and a git hook has git variables.
drop_inherited_variables() {
  local name
  for name in "${!SBATCH_@}" "${!SLURM_@}" "${!SQUEUE_@}" "${!SINFO_@}" "${!SCANCEL_@}" "${!SACCT_@}"; do
    if [[ $name != SLURM_CONF ]]; then unset "$name"; fi
  done
  unset GREP_OPTIONS TAR_OPTIONS GIT_{LITERAL,GLOB,NOGLOB,ICASE}_PATHSPECS
  [[ -d ${TMPDIR:-/tmp} && -w ${TMPDIR:-/tmp} ]] \
    || die "TMPDIR: ${TMPDIR:-/tmp} is not a writable folder. Create it, or set TMPDIR to another folder."
  command -v sbatch > /dev/null || die "sbatch is not installed here. Submit on the cluster."
  command -v git > /dev/null || die "git is not installed here"
  if [[ ! ${!GIT_@} ]]; then return; fi
  for name in $(git rev-parse --local-env-vars); do unset "$name"; done
}

locate_experiment() {
  root=${scripts%"/$experiment/scripts"}
  [[ $root != "$scripts" ]] || die "this script is in $scripts. Move it to $experiment/scripts."
  [[ ! -e $root/submitted.json ]] || die "this is a pinned copy. Submit from the experiment itself."
  [[ $root != *[[:cntrl:]\\]* ]] \
    || die "Slurm cannot write logs to a path with a control character or a backslash: $(printf %q "$root")"
  folder=$root/$experiment
  logs=$folder/slurm/output
  readonly root folder logs
}

# Make folders if they are missing, and check that they can be written.
require_writable() { # FOLDER...
  local path probe problem=''
  local -a probes=()
  set -o noclobber # a probe never follows a link, and never overwrites a file
  for path; do
    probe=$path/.submit.$$.$RANDOM$RANDOM
    if [[ -L $path && ! -e $path ]]; then
      problem="$path is a link to a missing folder. Make that folder."
    elif [[ ! -d $path ]] && ! mkdir -p -- "$path" 2> /dev/null; then
      problem="$path cannot be made"
    elif { true > "$probe"; } 2> /dev/null; then
      probes+=("$probe")
      continue
    else
      problem="$path cannot be written"
    fi
    break
  done
  set +o noclobber
  rm -f -- "${probes[@]}"
  [[ ! $problem ]] || die "$problem"
}

# Set `code`, the folder of all pinned code, and `work`, a temporary folder in it for this submission.
make_temporary_folder() {
  require_writable "$logs" "$folder/results" "$folder/slurm/code"
  code=$(cd -P -- "$folder/slurm/code" && pwd -P)
  [[ $code != *[[:cntrl:]\\]* ]] \
    || die "Slurm cannot run jobs in a path with a control character or a backslash: $(printf %q "$code")"
  work=$(mktemp -d -- "$code/.new.XXXXXXXXXX" 2>&1) || die "$work"
  readonly code work
  trap clean_up EXIT
}

# Remove the temporary folders, and the receipts of launchers that were not submitted.
clean_up() {
  local receipt
  local -a unused=()
  for receipt in "${receipts[@]}"; do
    [[ -e $receipt/job ]] || unused+=("$receipt")
  done
  remove "$work" ${answers:+"$answers"} "${unused[@]}"
}

# Submission -----------------------------------------------------------------------------------------------------------

# Submit all launchers, or none.
submit_all() {
  local launcher number
  [[ -d $folder/slurm/submitted ]] || mkdir -p -- "$folder/slurm/submitted" 2> "$work/error" || die "$(< "$work/error")"
  for launcher in "${launchers[@]}"; do write_receipt "$launcher"; done
  scripts_of_receipts=$(realpath --relative-to="${receipts[0]}" -- "$tree/$experiment/scripts")
  trap 'interrupted=yes' INT TERM HUP
  for number in "${!launchers[@]}"; do
    submit_chain "${launchers[number]}" "${receipts[number]}"
  done
}

# Submit the legs of a launcher, and set its entry in `chains` to their jobs. Without --legs there is one leg.
submit_chain() { # LAUNCHER RECEIPT
  local leg
  chains[$1]=''
  for ((leg = 1; leg <= request[legs]; leg++)); do
    [[ ! $interrupted ]] || rollback "interrupted"
    submit "$1" "$2"
    chains[$1]+=${chains[$1]:+ }${jobs[-1]}
    { printf '%s\n' "${jobs[-1]}" >> "$2/legs" && printf '%s\n' "${chains[$1]%% *}" > "$2/job"; } 2> "$work/error" \
      || rollback "$1: $(< "$work/error")"
  done
}

# Submit one leg of a launcher, and append its job to `jobs`.
submit() { # LAUNCHER RECEIPT
  local answer message status=0
  local -a words
  list_sbatch_words "$1" "$2" words
  # sbatch must ignore signals: if it ended right after Slurm accepted the job, the job's number would be lost.
  answer=$(trap '' INT TERM HUP && exec sbatch --parsable "${words[@]}" 2> "$work/sbatch" < /dev/null) || status=$?
  if ((!status)) && [[ $'\n'$answer =~ $'\n'([0-9]+) ]]; then
    jobs+=("${BASH_REMATCH[1]}")
    [[ ! -s $work/sbatch ]] || warn "$1: $(< "$work/sbatch")"
  else
    message=$(grep -h . "$work/sbatch" - <<< "$answer") || message="sbatch printed no job, exit code $status"
    recover_job "$1" "$2" "$message"
  fi
  [[ -d $job_folder ]] || rollback "$1: $job_folder was removed in the meantime. Submit again."
}

# Append to `jobs` the job that Slurm accepted, although sbatch failed or printed no number. If there is none, cancel
# the other jobs and exit.
recover_job() { # LAUNCHER RECEIPT MESSAGE
  local unknown=''
  local -a found=()
  if ! find_jobs "$2" "$3" found; then
    unknown="squeue failed: $(< "$work/error")"
  elif [[ ! ${found[*]} ]] && is_undecided "$3"; then
    unknown="it is not in the queue yet"
  fi
  if [[ $unknown ]]; then
    echo unknown > "$2/job" # keeps the receipt, which the job would read
    rollback "$1: $3; $unknown" "Look for a job of $1: squeue --format='%i %o' | grep ${2##*/}"
  fi
  jobs+=("${found[@]}")
  case ${found[*]} in
    '') rollback "$1: $3" ;;
    *' '*) rollback "$1: Slurm accepted more than one job: $3" ;;
    *) warn "$1: sbatch failed, but Slurm accepted the job: $3" ;;
  esac
}

# Return whether Slurm may accept a job after sbatch has failed with a message.
is_undecided() { # MESSAGE
  [[ $1 =~ timed\ out|[Rr]eceive|reset ]]
}

# Set the array RESULT to the jobs of a receipt in the queue. If sbatch did not wait for Slurm's answer, look several
# times. Earlier legs have the same receipt. squeue also lists jobs that Slurm refused, as BadConstraints. Return 1 if
# squeue fails.
find_jobs() { # RECEIPT MESSAGE RESULT
  local answer number reason command delay
  local -a delays=(0)
  local -n result=$3
  if is_undecided "$2"; then delays=(0 5 10 15); fi
  for delay in "${delays[@]}"; do
    sleep "$delay"
    answer=$(ask_slurm squeue --noheader --states=all --format='%F|%r|%o') || return 1
    while IFS='|' read -r number reason command; do
      if [[ $command != "$1"/* || $reason == BadConstraints ]]; then continue; fi
      if [[ " ${jobs[*]} ${result[*]} " == *" $number "* ]]; then continue; fi
      result+=("$number")
    done <<< "$answer"
    if [[ ${result[*]} ]]; then return; fi
  done
}

# Run a Slurm command, and print its output. Run it again if it fails, because Slurm may be busy.
ask_slurm() { # COMMAND...
  local answer attempt
  for attempt in 1 2 3; do
    if answer=$(timeout --foreground 20 "$@" 2> "$work/error"); then
      printf '%s\n' "$answer"
      return
    fi
    if ((attempt < 3)); then sleep 1; fi
  done
  [[ -s $work/error ]] || echo "no answer" > "$work/error"
  return 1
}

# Write the receipt, which records what is submitted, and append its folder to `receipts`. The job reads it.
write_receipt() { # LAUNCHER
  local receipt is_dirty=false is_live=false
  if [[ $dirty ]]; then is_dirty=true; fi
  if [[ ${request[live]} ]]; then is_live=true; fi
  printf -v receipt '%s/slurm/submitted/%(%Y-%m-%d-%H-%M-%S)T-%08x' "$folder" -1 $((RANDOM << 15 | RANDOM))
  {
    mkdir -- "$receipt" && receipts+=("$receipt") \
      && printf '%s\n' "${stems[$1]}" > "$receipt/launcher" \
      && printf '%s\n' "${configs[$1]}" > "$receipt/config" \
      && printf '%s\n' "$commit" > "$receipt/commit" \
      && printf '%s\n' "$is_dirty" > "$receipt/dirty" \
      && print_words "${overrides[@]}" > "$receipt/words" \
      && print_words "${options[@]}" > "$receipt/options" \
      && printf '%s\n' "${request[name]}" > "$receipt/name" \
      && printf '%s\n' "$is_live" > "$receipt/live" \
      && if [[ ${request[earlier]} ]]; then tr , '\n' <<< "${request[earlier]%,}" > "$receipt/legs"; fi \
      && if [[ ${request[action]} ]]; then list_repeated > "$receipt/again"; fi \
      && if [[ -e $work/inputs/$1 ]]; then print_inputs "$1" > "$receipt/inputs"; fi \
      && if [[ -e $work/unrecorded/$1 ]]; then : > "$receipt/unrecorded"; fi \
      && if [[ -e $work/points/$1 ]]; then print_points "$1" > "$receipt/points"; fi \
      && if [[ ${grids[$1]-} ]]; then pack_size "$1" > "$receipt/ntasks"; fi
  } 2> "$work/error" || die "$receipt cannot be written: $(< "$work/error")"
}

# Print each declared input and its checksum.
print_inputs() { # LAUNCHER
  local -a words
  mapfile -t -d '' words < "$work/inputs/$1"
  print_words "${words[@]}"
}

# Print the name and the hash of each point.
print_points() { # LAUNCHER
  local name hash
  while IFS= read -r -d '' name && IFS= read -r -d '' hash && IFS= read -r -d '' _; do
    print_words "$name" "$hash"
  done < "$work/points/$1"
}

print_words() { # WORD...
  if (($#)); then printf '%s\0' "$@"; fi
}

# Set the array RESULT to sbatch's arguments for a launcher. Its path leads through the receipt, so that the job can be
# found in the queue: Slurm shows the path, but since 24.11 no arguments, and the comment is the user's.
list_sbatch_words() { # LAUNCHER RECEIPT RESULT
  local -n result=$3
  local -r config=${configs[$1]}
  local file name=%x_%j.out earlier=${request[earlier]}${chains[$1]// /,}
  file=$2/$scripts_of_receipts/${stems[$1]}.slurm
  if [[ ${arrays[$1]-} ]]; then name=%x_%A_%a.out; fi
  result=(--chdir="$job_folder" --output="${logs//%/%%}/$name" --error="${logs//%/%%}/$name")
  if [[ $account && ! ${slurm_options[$1 account]-} ]]; then result+=(--account="$account"); fi
  if [[ $config ]]; then result+=(--job-name="$job_prefix-$config"); fi
  result+=("${options[@]}" ${arrays[$1]:+--array="${arrays[$1]}"})
  # A leg waits for all earlier ones. If it waited for the last one alone, and that was cancelled in the queue, this leg
  # would start beside the leg that runs.
  if [[ $earlier ]]; then result+=(--dependency="afterany:$(tr , : <<< "${earlier%,}")"); fi
  result+=("$file")
  if is_from_template "$file"; then result+=(--submission="$2" ${earlier:+--legs="$earlier"}); fi
  if [[ ${modes[$1]-} == plain ]]; then result+=(--); fi
  result+=(${config:+"$config"} "${overrides[@]}")
}

# Cancel the jobs that were submitted already, and exit. Print the jobs that could not be cancelled.
rollback() { # REASON [ADVICE]
  local ending=''
  if [[ ${jobs[*]} ]]; then
    if ask_slurm scancel "${jobs[@]}" > /dev/null; then
      ending="; cancelled: ${jobs[*]}"
    else
      ending="; still queued, because scancel failed ($(sed 's/^scancel: //' "$work/error")): ${jobs[*]}"
    fi
  fi
  die "$1$ending${2:+. $2}"
}

warnings=() jobs=() receipts=() interrupted='' writes_outputs='' answers=''
declare -A slurm_options # by "LAUNCHER OPTION", as Slurm reads them
declare -A starts # by launcher, as Slurm estimates them
declare -A chains=() # by launcher: the jobs of its legs, the first one first
main "$@"
