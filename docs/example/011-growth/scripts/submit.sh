#!/bin/bash
# experiments/011-growth/scripts/submit.sh
# [[experiments.011-growth.scripts.submit]]
# https://github.com/Mjvolk3/torchcell/tree/main/experiments/011-growth/scripts/submit.sh
# Checks launchers, pins the code that they run, and submits them, all or none, from any directory.
set -euo pipefail
shopt -s extglob

experiment=experiments/011-growth
package=torchcell # beside experiments/ or in src/; pinned with the experiment
untracked_limit=50 # MB

usage() {
  cat << END
Usage: submit.sh LAUNCHER... [KEY=VALUE...] [--dry-run] [--live] [-- SBATCH_OPTION...]
       submit.sh QUERY_LAUNCHER [--param KEY=JSON]... [--overwrite] [--dry-run] [--live] [-- SBATCH_OPTION...]
       submit.sh --prune

LAUNCHER       of $experiment/scripts, with or without .slurm
KEY=VALUE      overrides of the configuration, as Hydra takes them
--dry-run      check all, and submit nothing
--live         run the files as they are when the job starts, and not as they are now
SBATCH_OPTION  of sbatch, like --time=1:00:00 or --array=0-7; they win over the launcher's
--prune        remove the code that was submitted and that no job needs any more
END
}

stop() { # WORDS: say in one line why nothing is submitted
  local message=$*
  printf 'submit.sh: %s\n' "${message//$'\n'/; }" >&2
  exit 1
}

main() {
  clean_surroundings
  find_experiment
  read_arguments "$@"
  make_workplace
  if [[ $mode == prune ]]; then
    prune
    exit
  fi
  refuse_options
  find_launchers
  if [[ $live ]]; then use_the_tree; else pin; fi
  check_launchers
  if [[ $mode == check ]]; then
    say_notes
    printf '%s: ready\n' "${launchers[@]}"
    exit
  fi
  if [[ ! $live ]]; then keep_pinned; fi
  submit_all
  say_notes
  say_commit
}

# Where, and what ------------------------------------------------------------------------------------------------------

clean_surroundings() {
  # sbatch takes every option from a variable too, and inside a job there are those of that job.
  local name
  account=${SBATCH_ACCOUNT-}
  for name in "${!SBATCH_@}" "${!SLURM_@}"; do
    if [[ $name != SLURM_CONF ]]; then unset "$name"; fi
  done
  unset CDPATH # with it, cd prints
  command -v sbatch > /dev/null || stop "no sbatch here; submit from a machine of the cluster"
  command -v git > /dev/null || stop "no git here"
  # In a hook of git there are those of its own repository and index.
  for name in $(git rev-parse --local-env-vars); do unset "$name"; done
}

find_experiment() {
  scripts=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
  root=${scripts%"/$experiment/scripts"}
  [[ $root != "$scripts" ]] || stop "this is not in $experiment/scripts: $scripts"
  [[ ! -e $root/submitted.json ]] || stop "this is code that was submitted; submit from the experiment itself"
  [[ $root != *[[:cntrl:]\\]* ]] || stop "Slurm writes no log to a path with such a character: $(printf %q "$root")"
  folder=$root/$experiment
  logs=$folder/slurm/output
}

read_arguments() {
  mode=submit live='' for_query='' names=() overrides=() options=()
  while (($#)); do
    case $1 in
      --help | -h)
        usage
        exit
        ;;
      --dry-run) mode=check ;;
      --prune) mode=prune ;;
      --live) live=yes ;;
      --overwrite | --param=*) overrides+=("$1") for_query=$1 ;;
      --param)
        (($# > 1)) || stop "--param needs KEY=JSON"
        overrides+=("$1" "$2") for_query=$1
        shift
        ;;
      --)
        options=("${@:2}")
        break
        ;;
      -*) stop "there is no option $1, see --help; those of sbatch follow --" ;;
      \~* | *=*) if [[ -f $1 ]]; then names+=("$1"); else overrides+=("$1"); fi ;;
      *) names+=("$1") ;;
    esac
    shift
  done
  if [[ $mode == prune ]]; then
    [[ ! ${names[*]-} ]] || stop "--prune takes no launcher"
  else
    [[ ${names[*]-} ]] || stop "which launcher? $(cd "$scripts" && echo *.slurm)"
  fi
}

require_writable() { # FOLDER: make it where it is missing, and try to write in it
  local probe
  [[ ! -L $1 || -e $1 ]] || stop "$1 is a link to nowhere; make its folder"
  mkdir -p -- "$1" 2> /dev/null || stop "$1 cannot be made"
  # mktemp follows no link, and nobody can foresee the name.
  probe=$(mktemp -- "$1/.submit.XXXXXXXXXX" 2> /dev/null) || stop "$1 cannot be written"
  rm -f -- "$probe"
}

make_workplace() {
  local message
  require_writable "$logs"
  require_writable "$folder/results"
  require_writable "$folder/slurm/code"
  code=$(cd -P -- "$folder/slurm/code" && pwd -P)
  [[ $code != *[[:cntrl:]\\]* ]] || stop "Slurm runs no job in a path with such a character: $(printf %q "$code")"
  message=$(mktemp -d -- "$code/.new.XXXXXXXXXX" 2>&1) || stop "$message"
  work=$message
  trap 'remove "$work"' EXIT
}

remove() { # FOLDER: remove it, though it is read-only
  chmod -R u+w -- "$1" 2> /dev/null || true
  rm -rf -- "$1"
}

refuse_options() {
  # The job's files and place are what this script answers for, and what it prints is what sbatch prints.
  local word name message
  for word in ${options[@]+"${options[@]}"}; do
    for name in test-only wait quiet output error chdir wrap parsable help usage version clusters; do
      # sbatch takes an option shortened, too.
      [[ $word != --???* || --$name != "${word%%=*}"* ]] || stop "--$name is not for submit.sh: leave $word out"
    done
    [[ ! $word =~ ^-[HIOksv]*[DMQVWeho] ]] || stop "${BASH_REMATCH[0]} is not for submit.sh: leave $word out"
  done
  if [[ ! ${options[*]-} ]]; then return; fi
  # sbatch ends its options at the first word that is none: it would submit that script in place of the launcher.
  message=$(sbatch --test-only ${options[@]+"${options[@]}"} --end-of-options 2>&1 < /dev/null) || true
  case $message in
    *"unrecognized option '--end-of-options'"*) ;;
    *"option '"* | *"option -- "* | *[Ii]"nvalid "*) stop "${message%$'\n'Try*}" ;;
    *"script is empty"*) stop "after -- the last option lacks its value: ${options[*]}" ;;
    *) stop "after -- there are only options of sbatch, and no script: ${options[*]}" ;;
  esac
}

find_launchers() {
  local name directory launcher
  launchers=()
  for name in "${names[@]}"; do
    launcher=${name##*/}
    launcher=${launcher%.slurm}
    if [[ $name == */* ]]; then
      directory=${name%/*}
      [[ -e $directory ]] || directory=$folder/$directory # as one writes it in the experiment's folder
      [[ $directory -ef $scripts ]] || stop "$name is no launcher of $scripts"
    fi
    [[ -f $scripts/$launcher.slurm ]] || stop "no launcher $scripts/$launcher.slurm"
    launchers+=("$launcher")
  done
}

# What is submitted is what runs ---------------------------------------------------------------------------------------

quiet_git() { # no hook, monitor or check of a person's configuration has a say, and nothing of theirs is touched
  # It may read the file $stdin. Its warnings are no part of what it prints.
  GIT_OPTIONAL_LOCKS=0 GIT_TERMINAL_PROMPT=0 git \
    -c core.hooksPath=/dev/null -c core.fsmonitor= -c core.safecrlf=false -c core.splitIndex=false \
    -c core.sparseCheckout=false -c index.sparse=false -c advice.addEmbeddedRepo=false "$@" < "${stdin:-/dev/null}"
}

use_the_tree() {
  local message new
  place=$root tree=$root dirty=''
  find_head
  commit=$head
  message=$(quiet_git -C "$folder" status --porcelain --untracked-files=no 2> "$work/said") || stop "$(< "$work/said")"
  new=$(quiet_git -C "$folder" ls-files --others --exclude-standard 2> "$work/said") || stop "$(< "$work/said")"
  if [[ $message$new ]]; then dirty=-dirty; fi
}

pin() {
  # Paths are relative to the experiment, so that no sign in them is a pattern. What runs write is kept out, and
  # secrets: a run finds the one .env by a link.
  local path message copy
  paths=(.)
  find_repository
  find_package
  paths+=(':(exclude)results' ':(exclude)slurm' ':(exclude,glob)**/.env')
  refuse_much_untracked
  find_absent
  stage "$folder" "$repository" "$work/index"
  commit=$staged
  place=$code/$commit tree=$code/$commit
  if [[ ! -e $place ]]; then
    copy=$work/top
    tree=$copy${inner:+/$inner}
    copy_files "$copy${outer:+/$outer}"
    # A file may have been saved in the meantime: the commit is of what was copied.
    stage "$tree/$experiment" "$copy${outer:+/$outer}" "$work/copied" --force
    commit=$staged
    place=$code/$commit
    describe
  elif ! grep -qF "\"experiment\": \"${folder//\"/\\\"}\"" "$place/submitted.json" 2> /dev/null; then
    stop "$place is not of this experiment: slurm/code must be its own folder"
  fi
  dirty=''
  if [[ $commit != "$head" ]]; then dirty=yes; fi
  name_ignored
}

find_head() {
  head=$(quiet_git -C "$folder" rev-parse --verify 'HEAD^{commit}' 2> "$work/said") \
    || stop "no commit to record: $(< "$work/said")"
}

find_repository() {
  # The repository may be the monorepo, or its experiments/ may be a submodule; or the monorepo is a folder of one.
  local prefix
  find_head
  git_folder=$(quiet_git -C "$folder" rev-parse --absolute-git-dir)
  repository=$(quiet_git -C "$folder" rev-parse --show-toplevel)
  prefix=$(quiet_git -C "$folder" rev-parse --show-prefix)
  inner='' outer=''
  if [[ $prefix == *"$experiment/" ]]; then
    inner=${prefix%"$experiment/"} # the root's path in the repository
    inner=${inner%/}
  else
    outer=$experiment/
    outer=${outer%"$prefix"} # the repository's path in the root
    outer=${outer%/}
  fi
}

find_package() {
  local path
  if [[ ! $package ]]; then return; fi
  for path in "$package" "src/$package"; do
    if [[ -d $root/$path ]]; then
      [[ ! -L $root/$path ]] || stop "the package $root/$path is a link, so it cannot be pinned: use --live"
      [[ $(quiet_git -C "$root/$path" rev-parse --show-toplevel 2> /dev/null) == "$repository" ]] \
        || stop "the package $root/$path is in another repository, so it cannot be pinned: use --live"
      paths+=("../../$path" ":(exclude,glob)../../$path/**/.env")
      return
    fi
  done
  stop "the package $package is neither $root/$package nor in $root/src, so it cannot be pinned: use --live"
}

refuse_much_untracked() {
  local largest size
  size=$(cd "$folder" && quiet_git ls-files -z --others --exclude-standard -- "${paths[@]}" \
    | xargs -0 -r stat --format=%s -- 2> /dev/null | awk '{sum += $1} END {printf "%d", sum / 1000000}') || true
  if ((${size:-0} > untracked_limit)); then
    largest=$(cd "$folder" && quiet_git ls-files -z --others --exclude-standard -- "${paths[@]}" \
      | xargs -0 -r stat --format='%s %n' -- | sort -n | tail -n 1 | cut -d ' ' -f 2-)
    stop "$size MB of files that git does not track, like $folder/$largest: move them to DATA_ROOT, or ignore them"
  fi
}

find_absent() { # what a sparse checkout lacks on purpose, which nobody has deleted
  quiet_git -C "$folder" ls-files -z -t -- "${paths[@]}" | sed -z -n 's/^S //p' > "$work/sparse"
  (
    cd "$folder"
    while IFS= read -r -d '' file; do
      [[ -e $file || -L $file ]] || printf '%s\0' "$file"
    done
  ) < "$work/sparse" > "$work/absent"
}

stage() { # EXPERIMENT WORKTREE INDEX [OPTION]: sets staged to the commit of the files that are there now
  local message made date person=submit.sh where=$1 worktree=$2 index=$3
  git_here() { GIT_DIR=$git_folder GIT_WORK_TREE=$worktree GIT_INDEX_FILE=$index quiet_git -C "$where" "$@" 2> "$work/said"; }
  git_here read-tree "$head" || stop "$(< "$work/said")"
  stdin=$work/absent git_here update-index -z --skip-worktree --stdin || stop "$(< "$work/said")"
  git_here add --all "${@:4}" -- "${paths[@]}" || stop "$(< "$work/said")"
  message=$(git_here ls-files --stage -- "${paths[@]}" | sed -n 's/^160000 [^\t]*\t//p')
  [[ ! $message ]] || stop "$message is another repository, so it cannot be pinned: use --live"
  made=$(git_here write-tree --missing-ok) || stop "$(< "$work/said")"
  staged=$head
  if [[ $made == "$(quiet_git -C "$folder" rev-parse "$head^{tree}")" ]]; then return; fi
  # Nothing of it depends on the moment or the person: what is equal is one commit.
  date=$(quiet_git -C "$folder" show --no-patch --format=%cI "$head")
  staged=$(GIT_AUTHOR_NAME=$person GIT_AUTHOR_EMAIL=$person GIT_AUTHOR_DATE=$date \
    GIT_COMMITTER_NAME=$person GIT_COMMITTER_EMAIL=$person GIT_COMMITTER_DATE=$date \
    git_here -c i18n.commitEncoding=UTF-8 commit-tree "$made" -p "$head" -m "Submit $experiment") || stop "$(< "$work/said")"
}

copy_files() { # FOLDER: copy there what is staged, byte for byte, which a checkout is not where git converts files
  local message
  mkdir -p -- "$1"
  message=$(GIT_INDEX_FILE=$work/index quiet_git -C "$folder" ls-files -z -t --full-name -- "${paths[@]}" \
    | sed -z -n 's/^[^S] //p' | (cd "$repository" && xargs -0 -r cp --parents --no-dereference --preserve=mode,timestamps -t "$1" --) 2>&1) \
    || stop "$message"
}

describe() { # say in the pinned folder what it is, wherever it is
  local env=$scripts
  while [[ $env && ! -f $env/.env ]]; do env=${env%/*}; done
  if [[ ! -f $env/.env ]]; then env=$root; fi
  ln -s -- "$env/.env" "$tree/.env"
  local differs=true
  if [[ $commit == "$head" ]]; then differs=false; fi
  { printf '{"commit": "%s", "dirty": %s, "experiment": "%s"}\n' "$commit" "$differs" "${folder//\"/\\\"}" \
    > "$tree/submitted.json"; } 2> /dev/null || stop "$tree/submitted.json cannot be written"
}

name_ignored() {
  local files
  files=$(quiet_git -C "$folder" ls-files --full-name --others --ignored --exclude-standard -- "${paths[@]}" \
    | { grep -E '[.](py|so)"?$' || true; })
  [[ ! $files ]] || notes+=("not submitted, since git ignores it: ${files//$'\n'/ }")
  # A link may lead out of what is pinned.
  files=$(cd "$tree" && find . -xtype l -printf '%P ')
  [[ ! $files ]] || notes+=("not submitted, since it is a link to elsewhere: ${files% }")
}

keep_pinned() {
  local message
  message=$(quiet_git -C "$folder" -c core.filesRefLockTimeout=10000 update-ref "refs/submitted/$commit" "$commit" 2>&1) \
    || stop "$message"
  if [[ $tree == "$place" ]]; then return; fi
  chmod -R a-w -- "$tree" # no accident changes what a job will run
  chmod u+w -- "$tree"
  # Another submission may have moved its own there first, and it is the same.
  message=$(mv --no-target-directory -- "$tree" "$place" 2>&1) || [[ -e $place/submitted.json ]] || stop "$message"
  if [[ ! -e $tree ]]; then chmod a-w -- "$place"; fi
  tree=$place
}

# Checks ---------------------------------------------------------------------------------------------------------------

check_launchers() {
  local launcher message
  for launcher in "${launchers[@]}"; do
    check_file "$launcher" "$tree/$experiment/scripts/$launcher.slurm"
    check_pair "$launcher" "$tree/$experiment/scripts/$launcher.slurm"
    check_name "$launcher" "$tree/$experiment/scripts/$launcher.slurm"
    set_arguments "$launcher"
    message=$(sbatch --test-only "${arguments[@]}" 2>&1 < /dev/null) || stop "$launcher: $message"
  done
  preflight
}

check_file() { # LAUNCHER FILE
  local line message
  [[ -f $2 ]] || stop "$1: git ignores it, so it cannot be pinned: use --live"
  ! grep -q $'\r' "$2" || stop "$1: has DOS line breaks: sed -i 's/\\r\$//' $(printf %q "$scripts/$1.slurm")"
  grep -q '^#SBATCH' "$2" || stop "$1: is for a machine without Slurm: bash $(printf %q "$scripts/$1.slurm")"
  # Slurm says nothing about those.
  line=$(awk '/^[ \t]+#SBATCH/ || /^#SBATCH/ && command {print FNR; exit} !/^[ \t]*(#|$)/ {command = 1}' "$2")
  [[ ! $line ]] || stop "$1: Slurm ignores line $line, an #SBATCH with a blank before it or a command above it"
  message=$(bash -n "$2" 2>&1) || stop "$1: ${message#"$2: "}"
}

check_pair() { # LAUNCHER FILE: what it runs, which its run=( ... ) says
  local text words word after=''
  text=$(awk '/^run=\(/ {on = 1} on {print} on && /\)[ \t]*(#.*)?$/ {exit}' "$2")
  [[ $text ]] || stop "$1: has no run=( ... ), which says what it runs"
  mapfile -t -d '' words < <(bash -c "$text"$'\nprintf "%s\\0" "${run[@]}"' 2> /dev/null)
  [[ ${words[0]-} ]] || stop "$1: its run=( ... ) is empty or cannot be read"
  [[ -f $tree/${words[0]} ]] || stop "$1: no script ${words[0]}"
  [[ ! $for_query || ${words[0]} == */query.py ]] || stop "$1: $for_query is for the launcher of a query"
  for word in "${words[@]:1}"; do
    case $word in
      --config-name=* | -cn=* | config=*) require_configuration "$1" "${word#*=}" ;;
    esac
    if [[ $after == --config-name || $after == -cn ]]; then require_configuration "$1" "$word"; fi
    after=$word
  done
}

check_name() { # LAUNCHER FILE: what --job-name or -J says, of which Slurm makes the log's name
  local name
  name=$({ grep '^#SBATCH' "$2"; echo "#SBATCH ${options[*]-}"; } \
    | sed -n -E 's#.*[[:blank:]](--job[a-z-]*[=[:blank:]]|-J[=[:blank:]]?)[[:blank:]]*([^[:blank:]]*/[^[:blank:]]*).*#\2#p')
  [[ ! $name ]] || stop "$1: its job's name has a /, so Slurm could write no log: $name"
}

require_configuration() { # LAUNCHER NAME
  [[ -f $tree/$experiment/conf/${2%.yaml}.yaml ]] || stop "$1: no configuration $experiment/conf/${2%.yaml}.yaml"
}

set_arguments() { # LAUNCHER: sets arguments, what sbatch is given for it
  local file=$tree/$experiment/scripts/$1.slurm name=%x_%j.out
  if is_array "$file"; then name=%x_%A_%a.out; fi
  arguments=(--comment="$commit$([[ ! $live ]] || echo "$dirty")" --chdir="$place")
  arguments+=(--output="${logs//%/%%}/$name" --error="${logs//%/%%}/$name")
  # The variable would win over the launcher.
  [[ ! $account ]] || grep -qE '^#SBATCH.*[[:blank:]](--account|-A)' "$file" || arguments+=(--account="$account")
  arguments+=(${options[@]+"${options[@]}"} "$file" ${overrides[@]+"${overrides[@]}"})
}

is_array() { # FILE
  local word
  for word in ${options[@]+"${options[@]}"}; do
    if [[ $word == @(-a*|--arr*) ]]; then return 0; fi
  done
  grep -qE '^#SBATCH([^#]*[[:blank:]])?(--arr|-a)' "$1"
}

preflight() { # each launcher with --check, eight at a time: its machine's setup, and Python on runtime/check.py
  local launcher number=0 ended line lines failed=''
  for launcher in "${launchers[@]}"; do
    check_alone "$launcher" &
    if ((++number % 8 == 0)); then wait; fi
  done
  wait
  for launcher in "${launchers[@]}"; do
    ended=$(< "$work/$launcher.ended")
    if ((ended == 0)); then continue; fi
    mapfile -t lines < <(grep -v '^[[:space:]]*$' "$work/$launcher.check")
    if ((ended == 77)); then
      notes+=("$launcher: ${lines[*]}")
      continue
    fi
    failed=yes
    if [[ ! ${lines[*]-} ]]; then lines=("its --check ended with exit code $ended"); fi
    for line in "${lines[@]}"; do
      # bash names the launcher's path and line before what a launcher says by itself
      printf 'submit.sh: %s: %s\n' "$launcher" "${line#"$tree/$experiment/scripts/$launcher.slurm: line "+([0-9]): }" >&2
    done
  done
  [[ ! $failed ]] || exit 1
}

check_alone() { # LAUNCHER
  local ended=0
  (cd "$tree" && exec bash "$tree/$experiment/scripts/$1.slurm" --check ${overrides[@]+"${overrides[@]}"}) \
    < /dev/null > /dev/null 2> "$work/$1.check" || ended=$?
  echo "$ended" > "$work/$1.ended"
}

# Submission -----------------------------------------------------------------------------------------------------------

submit_all() {
  local launcher answer job
  jobs=() interrupted=''
  trap 'interrupted=yes' INT TERM HUP
  for launcher in "${launchers[@]}"; do
    set_arguments "$launcher"
    # sbatch itself ignores signals: ended after Slurm took the job, it would leave one that nobody knows of.
    answer=$(trap '' INT TERM HUP && exec sbatch --parsable "${arguments[@]}" 2> "$work/sbatch" < /dev/null) \
      || take_back "$launcher: $(< "$work/sbatch")"
    job=$(grep -m 1 -oE '^[0-9]+' <<< "$answer") || take_back "$launcher: sbatch printed no job: $answer"
    jobs+=("$job")
    [[ -d $place ]] || take_back "$launcher: $place is gone; submit again"
    [[ ! $interrupted || $launcher == "${launchers[-1]}" ]] || take_back "interrupted"
    [[ ! -s $work/sbatch ]] || notes+=("$launcher: $(< "$work/sbatch")")
    report "$launcher" "$job"
  done
}

take_back() { # WHY: cancel what is submitted already, and say what could not be
  local message
  if [[ ! ${jobs[*]-} ]]; then stop "$1"; fi
  message=$(scancel "${jobs[@]}" 2>&1) || stop "$1; still queued, since scancel failed (${message#scancel: }): ${jobs[*]}"
  stop "$1; cancelled: ${jobs[*]}"
}

report() { # LAUNCHER JOB: Slurm says the job's real name, and whether it has tasks
  local name tasks end=''
  IFS='|' read -r tasks name < <(squeue --noheader --states=all --jobs="$2" --format='%K|%j' 2> /dev/null | head -n 1) || true
  if [[ $tasks != N/A ]]; then end='_*'; fi
  printf '%s: job %s\n' "$1" "$2"
  printf '  log    %s%s.out\n' "$logs/${name}_$2" "$end"
  printf '  watch  tail -F %q%s.out\n' "$logs/${name}_$2" "$end"
}

say_notes() {
  local note
  for note in ${notes[@]+"${notes[@]}"}; do printf 'submit.sh: %s\n' "${note//$'\n'/; }" >&2; done
}

say_commit() {
  local where=''
  if [[ $PWD/ != "$root"/* ]]; then where=" -C $(printf %q "$root")"; fi
  if [[ $live ]]; then
    printf 'commit %s%s, live: the jobs run what is in %s when they start\n' "$commit" "$dirty" "$root"
  elif [[ $dirty ]]; then
    printf 'commit %s has your uncommitted changes: git%s show %s\n' "$commit" "$where" "$commit"
  else
    printf 'commit %s\n' "$commit"
  fi
}

# Pinned code that no job needs ----------------------------------------------------------------------------------------

prune() {
  local path name
  for path in "$code"/*/; do
    path=${path%/} name=${path##*/}
    if [[ ! $name =~ ^[0-9a-f]{40,64}$ ]] \
      || ! grep -qF "\"experiment\": \"${folder//\"/\\\"}\"" "$path/submitted.json" 2> /dev/null \
      || is_needed "$path"; then continue; fi
    # Somebody may submit it at this moment. Who finds it gone cancels; who did not has a job by now.
    mv -- "$path" "$work/$name"
    if is_needed "$path"; then
      mv -- "$work/$name" "$path"
    else
      printf 'removed %s\n' "$path"
    fi
  done
  # What a submission left that was killed.
  find "$code" -maxdepth 1 -name '.new.*' -mmin +1440 -exec chmod -R u+w {} + -exec rm -rf {} +
}

is_needed() { # FOLDER: whether a job is queued or runs in it
  local folders
  folders=$(squeue --noheader --format=%Z 2>&1) || stop "squeue failed, so nothing more is removed: $folders"
  [[ $'\n'$folders$'\n' == *$'\n'"$1"$'\n'* ]]
}

notes=()
main "$@"
