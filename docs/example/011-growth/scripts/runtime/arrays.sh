# Choose the tasks of job arrays: those of points that are not finished. submit.sh sources this file.
#
# For each launcher with a grid, the preflight writes a file $work/points/LAUNCHER. It contains for each point,
# in the order of the grid, its name, the hash of its configuration, and its state: `finished`, `finished elsewhere`
# (from another commit), `missing`, or the job that has claimed it.

declare -A grids=()     # the configuration of each launcher that has a grid
declare -A arrays=()    # the --array of each launcher
declare -A summaries=() # how many points of each launcher are in which state

# Refuse what a configuration with a grid excludes. Return 1 if there is a problem.
check_grid() { # LAUNCHER CONFIG
  local -r launcher=$1 file=${files[$1]} config=$2
  local override
  grids[$launcher]=$config
  for override in "${overrides[@]}"; do
    [[ $override != point=* ]] \
      || add_finding "$launcher" "point= only works in runs by hand. To submit one point: -- --array=NUMBER"
  done
  if ((${#overrides[@]})) && [[ ! ${request[name]} && ! ${findings[$launcher]-} ]]; then
    add_finding "$launcher" "$config has a grid. Points with overrides need a name: --name NAME"
  fi
  if grep -qE '^#SBATCH[[:space:]]+(--array|-a)' "$file"; then
    add_finding "$launcher" "it requests --array, but the grid of $config determines the tasks. Remove that option."
  elif ! checks_python "$file" && [[ ! ${slurm_options[$launcher array]-} ]]; then
    add_finding "$launcher" "$config has a grid, but its points cannot be counted here. Pass the tasks: -- --array=0-N"
  fi
  [[ ! ${findings[$launcher]-} ]]
}

# Return whether a launcher's check starts Python, which some machines forbid where jobs are submitted.
checks_python() { # FILE
  grep -qxF -- "${check_lines[0]}" "$1"
}

# Set `arrays`, the --array of each launcher, and `summaries`, the state of its points. Remove the launchers without a
# point to submit from `launchers`.
choose_tasks() {
  local launcher
  local -a rest=()
  [[ ! ${request[name]} || ${#grids[@]} -gt 0 ]] || die "--name only works for a configuration with a grid. Remove it."
  for launcher in "${launchers[@]}"; do
    if [[ -e $work/points/$launcher ]]; then count_points "$launcher"; fi
    limit_array "$launcher"
    if [[ ${arrays[$launcher]-} || ! -e $work/points/$launcher ]]; then rest+=("$launcher"); fi
  done
  launchers=("${rest[@]}")
}

# Count the points of a launcher by their state, and choose the tasks of those that neither are finished nor run now.
# An --array of the command line leaves out the other tasks. It must have one of the grid's.
count_points() { # LAUNCHER
  local name state task is_selected
  local -i number=0 finished=0 elsewhere=0 running=0 selected=0
  local -r asked=${slurm_options[$1 array]-}
  local size live
  size=$(pack_size "$1")
  live=$(live_jobs "$1")$'\n' # not with `local`, which would hide a failure
  local -a unfinished=() chosen=()
  while IFS= read -r -d '' name && IFS= read -r -d '' _ && IFS= read -r -d '' state; do
    task=$((number / size))
    number+=1
    if [[ $asked ]] && ! is_in_array "$task" "$asked"; then is_selected=''; else is_selected=yes selected+=1; fi
    if [[ $state == finished* ]]; then
      finished+=1
      if [[ $state != finished ]]; then elsewhere+=1; fi
    elif [[ $live == *$'\n'"$state"$'\n'* ]]; then
      running+=1
    elif [[ $is_selected ]]; then
      unfinished+=("$name")
      if [[ ${chosen[*]: -1} != "$task" ]]; then chosen+=("$task"); fi
    fi
  done < "$work/points/$1"
  ((selected)) || die "$1: --array=$asked has no task of its grid; the tasks are 0-$task"
  summaries[$1]="${#unfinished[@]} of $number, $finished finished, $running running"
  if ((!${#unfinished[@]})); then return; fi
  arrays[$1]=$(join_ranges "${chosen[@]}")
  summaries[$1]+=": ${unfinished[*]:0:6}"
  if ((${#unfinished[@]} > 6)); then summaries[$1]+=" and $((${#unfinished[@]} - 6)) more"; fi
  ((!elsewhere)) || warn "$1: $elsewhere of its finished points were computed at another commit"
}

# Return whether a task is in the value of --array, like 0-3,7 or 0-10:2%4.
is_in_array() { # TASK ARRAY
  local range first last step
  local -r ranges=${2%%\%*}
  for range in ${ranges//,/ }; do
    if [[ ! $range =~ ^([0-9]+)(-([0-9]+)(:([0-9]+))?)?$ ]]; then continue; fi
    first=10#${BASH_REMATCH[1]} last=10#${BASH_REMATCH[3]:-${BASH_REMATCH[1]}} step=10#${BASH_REMATCH[5]:-1} # 08 is 8
    if (($1 >= first && $1 <= last && ($1 - first) % step == 0)); then return; fi
  done
  return 1
}

# Print how many points a task runs: as many as it has processes if it is a pack, else one.
pack_size() { # LAUNCHER
  local size=1
  if [[ ${modes[$1]-} == pack ]]; then
    size=${slurm_options[$1 ntasks]-$((${slurm_options[$1 ntasks-per-node]-1} * ${slurm_options[$1 nodes]-1}))}
  fi
  printf '%s\n' "$size"
}

# Print the jobs that have claimed points of a launcher and are still in the queue: an empty line, then one job a line.
live_jobs() { # LAUNCHER
  local -a claims
  local jobs
  mapfile -t claims < <(tr '\0' '\n' < "$work/points/$1" | awk 'NR % 3 == 0 && /^[0-9]/' | sort -u)
  if ((!${#claims[@]})); then return; fi
  # With a single number, squeue would fail for a job that has ended long ago.
  jobs=$(IFS=, && ask_slurm squeue --noheader --array --format=%i --jobs="${claims[*]},${claims[0]}") \
    || die "$1: squeue failed, so running points are unknown: $(< "$work/error"). Submit again later."
  printf '\n%s\n' "$jobs"
}

# Print the largest number of points that Slurm allows a launcher.
largest_grid() { # LAUNCHER
  local largest
  largest=$(scontrol show config | sed -n 's/^MaxArraySize *= *//p')
  printf '%s\n' "$((${largest:-1001} * $(pack_size "$1")))"
}

# Print ascending numbers as the value of --array, like 0-3,7,9-12.
join_ranges() { # NUMBER...
  local number first='' last=''
  local -a ranges=()
  for number in "$@" ''; do
    if [[ $last && $number == $((last + 1)) ]]; then
      last=$number
      continue
    fi
    if [[ $first ]]; then ranges+=("$first$([[ $first == "$last" ]] || echo "-$last")"); fi
    first=$number last=$number
  done
  (IFS=, && printf '%s\n' "${ranges[*]}")
}

# Record the launcher's --array: that of its points, of the command line or of its own options. Let at most as many
# tasks run at a time as its machine allows, unless the array states a limit.
limit_array() { # LAUNCHER
  local -r asked=${slurm_options[$1 array]-}
  local array=$asked text
  if [[ -e $work/points/$1 ]]; then
    array=${arrays[$1]-}
    if [[ $array && $asked == *%* ]]; then array+=%${asked##*%}; fi
  fi
  read_text "${files[$1]}" text
  if [[ $array && $array != *%* && $'\n'$text =~ $'\n'export\ EXPERIMENT_ARRAY_LIMIT=([0-9]+) ]]; then
    array+=%${BASH_REMATCH[1]}
  fi
  if [[ $array ]]; then arrays[$1]=$array; fi
}
