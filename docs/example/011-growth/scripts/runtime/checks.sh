# What can be known to fail is refused before the queue. Sourced by submit.sh.

readonly check_seconds=600 # for a launcher's setup, and for all scripts of a group

check_launchers() {
  local launcher file
  for launcher in "${launchers[@]}"; do
    file=$tree/$experiment/scripts/$launcher.slurm
    check_text "$launcher" "$file"
    check_options "$launcher" "$file"
  done
  preflight
}

check_text() { # LAUNCHER FILE
  local line message
  [[ -f $2 ]] || die "$1: git ignores it, so it cannot be pinned: use --live"
  ! grep -q $'\r' "$2" || die "$1: has DOS line breaks: sed -i 's/\\r\$//' $(printf %q "$scripts/$1.slurm")"
  grep -q '^#SBATCH' "$2" || die "$1: is for a machine without Slurm: bash $(printf %q "$scripts/$1.slurm")"
  # Slurm ignores those without a word.
  line=$(awk '/^[ \t]+#SBATCH/ || /^#SBATCH/ && command {print FNR; exit} !/^[ \t]*(#|$)/ {command = 1}' "$2")
  [[ ! $line ]] || die "$1: Slurm ignores line $line, an #SBATCH with a blank before it or a command above it"
  message=$(bash -n "$2" 2>&1) || die "$1: ${message#"$2: "}"
  ! is_from_template "$2" || grep -q '^run=(' "$2" || die "$1: has no run=( ... ), which names what it runs"
}

# Whether a launcher has the template's own line for checks. Nothing else of the user's is executed by a check.
is_from_template() { # FILE
  grep -qxF -f <(print_check_lines) -- "$1"
}

# The second line is that of a machine where Python may not run on the login nodes.
print_check_lines() {
  cat << 'END'
if [[ ${1-} == --check ]]; then printf '%s\0' '' "${#python[@]}" "${python[@]}" "${#run[@]}" "${run[@]}" && exec env -0; fi
if [[ ${1-} == --check ]]; then printf '%s\0' '' 0 "${#run[@]}" "${run[@]}" && exit; fi
END
}

# The options of a launcher ---------------------------------------------------------------------------------------------

# Ask Slurm whether it would take a launcher with the options of the command line, and which options it then has.
check_options() { # LAUNCHER FILE
  local -a words=("${options[@]}" "$2")
  local taken=yes
  test_submission "$1" "${words[@]}" || taken=''
  # SBATCH_ACCOUNT would win over the launcher, so it is given where the launcher has no account.
  if [[ $account && ! ${slurm_options[$1 account]-} ]]; then
    test_submission "$1" --account="$account" "${words[@]}" && taken=yes || taken=''
  fi
  [[ $taken ]] || die "$1: $(print_refusal)"
  [[ ${slurm_options[$1 job-name]-} != */* ]] \
    || die "$1: its job's name has a /, so Slurm could write no log: ${slurm_options[$1 job-name]}"
}

# Set the entries of a launcher in `slurm_options`. Return sbatch's exit code.
test_submission() { # LAUNCHER WORD...
  local line status=0
  sbatch --verbose --test-only "${@:2}" > "$work/test" 2>&1 < /dev/null || status=$?
  while IFS= read -r line; do
    if [[ $line =~ ^sbatch:\ ([a-z-]+)\ *:\ (.*)$ ]]; then slurm_options[$1 ${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}; fi
  done < <(sed -n '/^sbatch: defined options$/,/^sbatch: end of defined options$/p' "$work/test")
  return "$status"
}

# Print why sbatch refused, without what it prints with --verbose.
print_refusal() {
  grep -E '^sbatch: (error|fatal)|^([^s]|s[^b])' "$work/test" || cat "$work/test"
}

# Print the variables of a job that follow from a launcher's options, as Slurm would set them.
print_job_variables() { # LAUNCHER
  local gpus=${slurm_options[$1 gpus-per-node]-${slurm_options[$1 gres]-${slurm_options[$1 gpus]-}}}
  if [[ ${slurm_options[$1 cpus-per-task]-} ]]; then echo "SLURM_CPUS_PER_TASK=${slurm_options[$1 cpus-per-task]}"; fi
  if [[ ${slurm_options[$1 ntasks]-} ]]; then echo "SLURM_NTASKS=${slurm_options[$1 ntasks]}"; fi
  if [[ $gpus =~ gpu[^,]*:([0-9]+) || $gpus =~ ^([0-9]+)$ ]]; then
    echo "SLURM_GPUS_ON_NODE=${BASH_REMATCH[1]}"
  elif [[ $gpus == *gpu* ]]; then
    echo SLURM_GPUS_ON_NODE=1
  fi
  if [[ ${slurm_options[$1 array]-} =~ ^[0-9]+ ]]; then echo "SLURM_ARRAY_TASK_ID=${BASH_REMATCH[0]}"; fi
}

# The preflight ---------------------------------------------------------------------------------------------------------

# Let each launcher of the template print its command and environment, and then start Python once for all launchers
# that have it and the environment in common. Print every problem, and exit where there is one.
preflight() {
  local launcher failed=''
  local -A groups=() findings=() # launchers by what they have in common, and the problems of each
  mkdir -- "$work/checks" "$work/inputs"
  ask_launchers
  for launcher in "${launchers[@]}"; do group_launcher "$launcher"; done
  check_groups
  for launcher in "${launchers[@]}"; do
    if [[ ! ${findings[$launcher]-} ]]; then continue; fi
    failed=yes
    printf '%s' "${findings[$launcher]}" >&2
  done
  [[ ! $failed ]] || exit 1
}

# Run the launchers up to their check line, eight at a time. What they print has their environment, which may hold
# secrets: it is kept in a folder that nobody else can read, and for a moment only.
ask_launchers() {
  local launcher number=0
  answers=$(umask 077 && mktemp -d)
  trap 'remove "$answers"; clean_up' EXIT
  for launcher in "${launchers[@]}"; do
    if ! is_from_template "$tree/$experiment/scripts/$launcher.slurm"; then continue; fi
    ask_launcher "$launcher" &
    if ((++number % 8 == 0)); then wait; fi
  done
  wait
}

ask_launcher() { # LAUNCHER
  local status=0
  local -a variables
  mapfile -t variables < <(print_job_variables "$1")
  (cd -- "$tree" && exec timeout --kill-after=10 "$check_seconds" env "${variables[@]}" \
    bash "$tree/$experiment/scripts/$1.slurm" --check "${overrides[@]}") \
    < /dev/null > "$answers/$1" 2> "$answers/$1.errors" || status=$?
  echo "$status" > "$answers/$1.status"
}

# Read what a launcher printed: an empty word after anything that its setup printed, the number of Python's words and
# these, the number of the run's words and these, and the environment.
group_launcher() { # LAUNCHER
  local count variable key
  local -a fields python run own=() shared=()
  if ! is_from_template "$tree/$experiment/scripts/$1.slurm"; then
    warn "$1: only its text was checked, since it is not a launcher of the template"
    return
  fi
  if [[ $(< "$answers/$1.status") != 0 ]]; then
    add_failure "$1" "$(< "$answers/$1.status")" "$answers/$1.errors"
    return
  fi
  mapfile -t -d '' fields < "$answers/$1"
  if [[ ${fields[1]-} != +([0-9]) ]]; then
    add_finding "$1" "something before its --check line ends it, with exit code 0"
    return
  fi
  count=${fields[1]}
  python=("${fields[@]:2:count}")
  fields=("${fields[@]:2+count}")
  count=${fields[0]}
  run=("${fields[@]:1:count}")
  fields=("${fields[@]:1+count}")
  check_run "$1" "${run[@]}" || return 0
  if ((!${#python[@]})); then
    warn "$1: no preflight, and its inputs are not fixed: Python may not run where people submit to its machine"
    return
  fi
  for variable in "${fields[@]}"; do
    case $variable in
      EXPERIMENT_MODE=* | SLURM_*) own+=("$variable") ;;
      EXPERIMENT_JOB=* | EXPERIMENT_SUBMISSION=* | SHLVL=* | _=*) ;;
      *) shared+=("$variable") ;;
    esac
  done
  printf -v key '%s\n' "${python[@]}" '' "${shared[@]}"
  add_to_group "$1"
}

# Check what a launcher's run=( ... ) names. Return 1 where that is wrong.
check_run() { # LAUNCHER WORD...
  local word after=''
  local -r launcher=$1 script=${2-}
  if [[ ! $script ]]; then
    add_finding "$launcher" "its run=( ... ) is empty"
  elif [[ ! -f $tree/$script ]]; then
    add_finding "$launcher" "no script $script"
  elif [[ ${request[query_option]} && $script != */query.py ]]; then
    add_finding "$launcher" "${request[query_option]} is for the launcher of a query"
  fi
  for word in "${@:3}"; do
    case $word in
      --config-name=* | -cn=* | config=*) check_configuration "$launcher" "${word#*=}" ;;
    esac
    if [[ $after == --config-name || $after == -cn ]]; then check_configuration "$launcher" "$word"; fi
    after=$word
  done
  [[ ! ${findings[$launcher]-} ]] || return 1
  if ! grep -q runtime "$tree/$script"; then writes_outputs=yes; fi
}

check_configuration() { # LAUNCHER NAME
  local -r file=$experiment/conf/${2%.yaml}.yaml
  if [[ -f $tree/$file ]]; then return; fi
  if [[ -f $root/$file ]]; then
    add_finding "$1" "git ignores its configuration $file, so it cannot be pinned: use --live"
  else
    add_finding "$1" "no configuration $file"
  fi
}

# Write a launcher's request to the folder of its group, for check.py, with the variables that the group shares.
add_to_group() { # LAUNCHER
  local group=${groups[$key]-}
  if [[ ! $group ]]; then
    group=$work/checks/${#groups[@]}
    groups[$key]=$group
    mkdir -- "$group" "$group/inputs"
    print_words "${python[@]}" > "$group/python"
    (umask 077 && print_words "${shared[@]}" > "$answers/${group##*/}.environment")
  fi
  echo "$1" >> "$group/launchers"
  print_words "$1" "${#own[@]}" "${own[@]}" "$((${#run[@]} + ${#overrides[@]}))" "${run[@]}" "${overrides[@]}" \
    >> "$group/requests"
}

# Start Python on each group, eight at a time, and read what it found.
check_groups() {
  local group number=0
  for group in "$work/checks"/*; do
    if [[ ! -d $group ]]; then continue; fi
    check_group "$group" &
    if ((++number % 8 == 0)); then wait; fi
  done
  wait
  for group in "$work/checks"/*; do
    if [[ -d $group ]]; then read_group "$group"; fi
  done
}

# What identifies a run must reach Python, so each such variable has a value here, and check.py looks for it.
check_group() { # FOLDER
  local status=0
  local -a python environment
  local -r probes=(EXPERIMENT_MODE=one EXPERIMENT_JOB=0 EXPERIMENT_SUBMISSION=none SLURM_JOB_ID=0 SLURM_ARRAY_JOB_ID=0
    SLURM_ARRAY_TASK_ID=0 SLURM_RESTART_COUNT=0 SLURM_CLUSTER_NAME=none SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0
    SLURM_STEP_ID=0 SLURM_CPUS_PER_TASK=1)
  mapfile -t -d '' python < "$1/python"
  mapfile -t -d '' environment < "$answers/${1##*/}.environment"
  (cd -- "$tree" && exec timeout --kill-after=10 "$check_seconds" env -i "${environment[@]}" "${probes[@]}" \
    "${python[@]}" "$experiment/scripts/runtime/check.py" "$1") < /dev/null > /dev/null 2> "$1/errors" || status=$?
  echo "$status" > "$1/status"
}

read_group() { # FOLDER
  local launcher line
  local -r status=$(< "$1/status")
  while read -r launcher; do
    if [[ $status != 0 ]]; then add_failure "$launcher" "$status" "$1/errors"; fi
  done < "$1/launchers"
  if [[ $status != 0 ]]; then return; fi
  while IFS= read -r -d '' launcher && IFS= read -r -d '' line; do
    add_finding "$launcher" "$line"
  done < "$1/problems"
  while IFS= read -r -d '' launcher && IFS= read -r -d '' line; do
    warn "$launcher: $line"
  done < "$1/notes"
  cp -R -- "$1/inputs/." "$work/inputs/"
}

add_finding() { # LAUNCHER LINE
  findings[$1]+="submit.sh: $1: $2"$'\n'
}

# Add why a check could not be made: what it printed last, or its exit code.
add_failure() { # LAUNCHER CODE ERRORS
  local line
  line=$(grep -v '^[[:space:]]*$' "$3" | tail -n 1) || true
  # bash names the launcher's path and line before what a launcher prints by itself
  line=${line#"$tree/$experiment/scripts/$1.slurm: line "+([0-9]): }
  if [[ $2 == 124 ]]; then
    line="its check took more than $check_seconds s: look for what waits in its setup, or at the top of its script"
  fi
  add_finding "$1" "${line:-its check ended with exit code $2}"
}
