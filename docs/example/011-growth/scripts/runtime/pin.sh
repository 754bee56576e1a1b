# Pin the code of a submission: commit the files as they are now, and make a read-only copy in which the job runs.
# submit.sh sources this file.

readonly untracked_limit=50 # MB

during_checks=() # functions to call while Python checks the launchers

# Run git without the user's hooks, fsmonitor or locks. Its standard input is the file $stdin, if that is set.
quiet_git() { # ARGUMENT...
  GIT_OPTIONAL_LOCKS=0 GIT_TERMINAL_PROMPT=0 git \
    -c core.hooksPath=/dev/null -c core.fsmonitor= -c core.safecrlf=false -c core.splitIndex=false \
    -c core.ignoreStat=false -c core.sparseCheckout=false -c index.sparse=false -c advice.addEmbeddedRepo=false \
    "$@" < "${stdin:-/dev/null}"
}

# Run git in FOLDER with an index of submit.sh's own, for the files of a work tree. Errors go to $work/error.
index_git() { # FOLDER WORKTREE ARGUMENT...
  GIT_DIR=$git_folder GIT_WORK_TREE=$2 GIT_INDEX_FILE=$work/index quiet_git -C "$1" "${@:3}" 2> "$work/error"
}

# The three functions below set these variables:
#
#   commit      the commit that is submitted
#   dirty       not empty if that differs from HEAD
#   job_folder  the folder in which the jobs run
#   tree        the copy of the repository's root: a temporary folder until `publish`, then `job_folder`

use_working_tree() {
  local message
  job_folder=$root tree=$root dirty=''
  find_repository
  find_package
  commit=$head
  message=$(quiet_git -C "$folder" status --porcelain --untracked-files=all -- "${paths[@]}" 2> "$work/error") \
    || die "$(< "$work/error")"
  if [[ $message ]]; then dirty=yes; fi
}

pin() {
  find_repository
  find_package
  list_files
  refuse_ignored
  refuse_large_untracked
  stage_files
  if ! find_copy; then
    copy_files "$copy"
    restage_copy "$copy"
    job_folder=$code/$commit
  fi
  dirty=''
  if [[ $commit != "$head" ]]; then dirty=yes; fi
  if [[ $tree != "$job_folder" ]]; then write_metadata; fi
  during_checks=(warn_ignored warn_large_results)
}

# Set `job_folder`, and `tree` to it if it has a copy of `commit`. Else return 1, and set `tree` to a temporary folder
# and `copy` to the place of the repository's files in it.
find_copy() {
  job_folder=$code/$commit
  if [[ -e $job_folder ]]; then
    tree=$job_folder
    require_own_copy
    return
  fi
  tree=$work/top${inner:+/$inner} copy=$work/top${outer:+/$outer}
  return 1
}

# Use the code of a recorded submission: its copy or, if that was pruned, a new copy of its commit.
pin_recorded() {
  local -r launcher=${stems[${launchers[0]}]}
  find_repository
  find_package
  commit=$(< "$recorded/commit") dirty=''
  if [[ $(< "$recorded/dirty") == true ]]; then dirty=yes; fi
  quiet_git -C "$folder" cat-file -e "$commit^{commit}" 2> /dev/null \
    || die "${request[run]}: its commit $commit is gone: it is not on a branch or in refs/submitted of this clone"
  quiet_git -C "$folder" cat-file -e "$commit:./scripts" 2> /dev/null \
    || die "${request[run]}: its commit $commit has no $experiment: it was moved since then. Submit it again."
  quiet_git -C "$folder" cat-file -e "$commit:./scripts/$launcher.slurm" 2> /dev/null \
    || die "${request[run]}: its commit $commit has no $experiment/scripts/$launcher.slurm"
  if ! find_copy; then
    restore_files "$copy"
    write_metadata
  fi
}

# Write the files of `commit` to a folder.
restore_files() { # FOLDER
  mkdir -p -- "$1"
  index_git "$folder" "$repository" read-tree "$commit" || die "$(< "$work/error")"
  index_git "$folder" "$repository" ls-files -z --full-name --cached -- "${paths[@]}" > "$work/files" \
    || die "$(< "$work/error")"
  stdin=$work/files index_git "$repository" "$repository" checkout-index -z --stdin --prefix="$1/" \
    || die "$(< "$work/error")"
}

# Set `head`, `head_tree`, `git_folder` and `repository`, and the relative paths between repository and monorepo:
#   inner  the path of the monorepo's root in the repository, if it is a folder there
#   outer  the path of the repository in the monorepo, if experiments/ is a submodule
find_repository() {
  local prefix
  local -a facts
  mapfile -t facts < <(quiet_git -C "$folder" \
    rev-parse 'HEAD^{commit}' 'HEAD^{tree}' --absolute-git-dir --show-toplevel --show-prefix 2> "$work/error")
  ((${#facts[@]} == 5)) || die "the repository has no commit: $(head -n 1 "$work/error")"
  head=${facts[0]} head_tree=${facts[1]} git_folder=${facts[2]} repository=${facts[3]} prefix=${facts[4]}
  inner='' outer=''
  if [[ $prefix == *"$experiment/" ]]; then
    inner=${prefix%"$experiment/"}
    inner=${inner%/}
  else
    outer=$experiment/
    outer=${outer%"$prefix"}
    outer=${outer%/}
  fi
}

# Set `package_path`, and `paths`, the pathspecs of the pinned files: the experiment and the package, without the files
# that runs write, and without .env, which the copy has as a link. Relative paths need no escape of pattern characters.
find_package() {
  local path reason=''
  package_path=''
  paths=(. ':(exclude)results' ':(exclude)slurm' ':(exclude,glob)**/.env')
  if [[ ! $package ]]; then return; fi
  for path in "$package" "src/$package"; do
    if [[ ! -d $root/$path ]]; then continue; fi
    if [[ -L $root/$path ]]; then
      reason="is a link"
    elif ! is_in_repository "$path"; then
      reason="is in another repository"
    fi
    if [[ $reason && ${request[live]} ]]; then return; fi
    [[ ! $reason ]] || die "the package $root/$path $reason, so it cannot be pinned. Use --live."
    package_path=../../$path
    paths+=("$package_path" ":(exclude,glob)$package_path/**/.env")
    return
  done
  [[ ${request[live]} ]] \
    || die "the package $package is in neither $root nor $root/src, so it cannot be pinned. Use --live."
}

# Return whether a package belongs to the repository of the experiment. Most do, and then git need not be asked.
is_in_repository() { # PATH
  if [[ ! $outer && ! -L $root/src && ! -e $root/src/.git && ! -e $root/$1/.git ]]; then return; fi
  [[ $(quiet_git -C "$root/$1" rev-parse --show-toplevel 2> /dev/null) == "$repository" ]]
}

# List the files of the experiment and the package by the user's index. Paths are relative to the experiment.
#
#   tracked    `scripts` and the package are keys of it if git tracks a file there
#   absent     files that a sparse checkout leaves out. They must not be committed as deleted
#   untracked  "BYTES PATH" of each file that git neither tracks nor ignores, also in results/
list_files() {
  local entry
  local -a entries others=()
  declare -gA tracked=()
  absent=() untracked=()
  mapfile -t -d '' entries < <(quiet_git -C "$folder" ls-files -z -t --cached --others --exclude-standard -- \
    . "${paths[@]:2}") # without the second one, which excludes results/
  for entry in "${entries[@]}"; do # a letter, a space and a path
    case $entry in
      '? '*) others+=("${entry:2}") && continue ;;
      'S '*) [[ -e $folder/${entry:2} || -L $folder/${entry:2} ]] || absent+=("${entry:2}") ;;
    esac
    case ${entry:2} in
      scripts/*) tracked[scripts]=yes ;;
      "$package_path"/*) tracked[$package_path]=yes ;;
    esac
  done
  if ((!${#others[@]})); then return; fi
  mapfile -t -d '' untracked < <(cd "$folder" && printf '%s\0' "${others[@]}" \
    | xargs -0 stat --printf='%s %n\0' -- 2> /dev/null)
}

# Refuse an ignored folder, because git lists none of its files. If some were added by force, it can be pinned.
refuse_ignored() {
  local path rule
  for path in scripts ${package_path:+"$package_path"}; do
    if [[ ${tracked[$path]-} ]]; then continue; fi
    rule=$(quiet_git -C "$folder" check-ignore --verbose -- "$path" 2> /dev/null) || continue
    die "git ignores $(realpath -s -- "$folder/$path") by ${rule%%$'\t'*}, so it cannot be pinned." \
      "Remove that rule, or use --live."
  done
}

refuse_large_untracked() {
  local entry largest='' total=0 most=0
  for entry in "${untracked[@]}"; do
    if [[ ${entry#* } == results/* ]]; then continue; fi
    total=$((total + ${entry%% *}))
    if ((${entry%% *} > most)); then most=${entry%% *} largest=${entry#* }; fi
  done
  if ((total > untracked_limit * 1000000)); then
    die "$((total / 1000000)) MB of files are untracked, such as $folder/$largest." \
      "Move them to DATA_ROOT, or let git ignore them."
  fi
}

# Users commit results. Warn early about files that are too large for that.
warn_large_results() {
  local entry size
  for entry in "${untracked[@]}"; do
    size=${entry%% *}
    if [[ ${entry#* } != results/* ]] || ((size <= untracked_limit * 1000000)); then continue; fi
    warn "$experiment/${entry#* } has $((size / 1000000)) MB and is too large to commit." \
      "Move it to DATA_ROOT, or let git ignore it."
  done
}

# Put the files of the work tree into a copy of HEAD's index, list them in $work/files, and set `commit`.
# `git add` would fail for an ignored path, even if that path is only excluded.
stage_files() {
  local nested
  index_git "$folder" "$repository" read-tree "$head" || die "$(< "$work/error")"
  if ((${#absent[@]})); then
    printf '%s\0' "${absent[@]}" > "$work/absent"
    stdin=$work/absent index_git "$folder" "$repository" update-index -z --skip-worktree --stdin \
      || die "$(< "$work/error")"
  fi
  index_git "$folder" "$repository" \
    ls-files -z -t --stage --full-name --cached --others --exclude-standard -- "${paths[@]}" > "$work/listed" \
    || die "$(< "$work/error")"
  # An entry is "? PATH" or "TAG MODE OBJECT STAGE<tab>PATH". A sparse checkout leaves out files with the tag S. The path
  # of another repository is "? PATH/" or has the mode 160000.
  sed -z -n -e "s|^? \(.*\)/$|\1|w $work/nested" -e "s/^. 160000 [^\t]*\t//w $work/nested" \
    -e 's/^? //p; s/^[^S?] [0-7]* [0-9a-f]* [0-3]\t//p' "$work/listed" > "$work/files"
  IFS= read -r -d '' nested < "$work/nested" || true
  [[ ! $nested ]] || die "$nested is another repository, so it cannot be pinned. Use --live."
  add_to_index "$repository"
}

# Set `commit` again if a file was saved since it was staged. By the times of files, git knows which one to read again.
restage_copy() { # WORKTREE
  if ! index_git "$folder" "$repository" diff-files --quiet -- "${paths[@]}"; then add_to_index "$1"; fi
}

# Put the files in $work/files from a work tree into $work/index, and set `commit` to a commit of that index.
add_to_index() { # WORKTREE
  local object date
  stdin=$work/files index_git "$1" "$1" update-index -z --add --remove --stdin || die "$(< "$work/error")"
  object=$(index_git "$1" "$1" write-tree --missing-ok) || die "$(< "$work/error")"
  commit=$head
  if [[ $object == "$head_tree" ]]; then return; fi
  # The commit does not depend on the time or the user, so equal trees have one commit.
  date=$(quiet_git -C "$folder" show --no-patch --format=%cI "$head")
  commit=$(GIT_AUTHOR_NAME=submit.sh GIT_AUTHOR_EMAIL=submit.sh GIT_AUTHOR_DATE=$date \
    GIT_COMMITTER_NAME=submit.sh GIT_COMMITTER_EMAIL=submit.sh GIT_COMMITTER_DATE=$date \
    index_git "$1" "$1" -c i18n.commitEncoding=UTF-8 commit-tree "$object" -p "$head" \
    -m "Submit $experiment") || die "$(< "$work/error")"
}

# Copy the staged files byte for byte. (A checkout may convert them.) Access control lists and hard links are not kept,
# since some disks cannot store them.
copy_files() { # FOLDER
  local message
  mkdir -p -- "$1"
  message=$(list_existing < "$work/files" \
    | { tar --create --file=- --directory="$repository" --null --no-recursion --hard-dereference --files-from=- \
      | tar --extract --file=- --directory="$1" --no-same-owner --no-same-permissions; } 2>&1) || die "$message"
}

# Leave out files that were deleted.
list_existing() {
  local file
  cd "$repository"
  while IFS= read -r -d '' file; do
    if [[ -e $file || -L $file ]]; then printf '%s\0' "$file"; fi
  done
}

# Set `env` to the path of the .env that scripts load, by the rule of `find_env` in environment.py.
find_env() {
  local parent=$scripts
  while [[ $parent && ! -f $parent/.env ]]; do parent=${parent%/*}; done
  if [[ ! -f $parent/.env ]]; then parent=$root; fi
  env=$parent/.env
}

# Write submitted.json, which describes the copy. Link the .env that the experiment itself finds, and the folders of the
# working directory to which Hydra writes in scripts without conf/runtime.yaml.
write_metadata() {
  local env differs=false
  if [[ $dirty ]]; then differs=true; fi
  find_env
  ln -s -- "$env" "$root/outputs" "$root/multirun" "$tree/"
  { printf '{"commit": "%s", "dirty": %s, "experiment": "%s"}\n' "$commit" "$differs" "${folder//\"/\\\"}" \
    > "$tree/submitted.json"; } 2> /dev/null || die "$tree/submitted.json cannot be written"
}

require_own_copy() {
  is_own_copy "$job_folder" \
    || die "$job_folder is not a copy of this experiment. Do not share slurm/code between experiments."
}

is_own_copy() { # FOLDER
  local text=''
  if [[ -r $1/submitted.json ]]; then read_text "$1/submitted.json" text; fi
  [[ $text == *"\"experiment\": \"${folder//\"/\\\"}\""* ]]
}

warn_ignored() {
  local files
  files=$(quiet_git -C "$folder" ls-files --full-name --others --ignored --exclude-standard -- "${paths[@]}" \
    | { grep -E '[.](py|so)"?$' || true; })
  [[ ! $files ]] || warn "not submitted, because git ignores it: ${files//$'\n'/ }"
  files=$(cd "$tree" && find . -mindepth 2 -xtype l -printf '%P ')
  [[ ! $files ]] || warn "not submitted, because it is a symlink to an unpinned file: ${files% }"
}

# Move the copy to its final folder, and give the commit a ref, without which git would delete it one day.
publish() {
  local message
  message=$(quiet_git -C "$folder" -c core.filesRefLockTimeout=10000 \
    update-ref "refs/submitted/$commit" "$commit" 2>&1) || die "$message"
  if [[ $tree == "$job_folder" ]]; then return; fi
  chmod -R a-w -- "$tree" # protects queued jobs from accidental edits
  chmod u+w -- "$tree"
  # Another submission may have moved an equal copy there first.
  message=$(mv --no-target-directory -- "$tree" "$job_folder" 2>&1) \
    || [[ -e $job_folder/submitted.json ]] || die "$message"
  if [[ ! -e $tree ]]; then chmod a-w -- "$job_folder"; fi
  tree=$job_folder
}

# Remove folders, even if they are read-only.
remove() { # FOLDER...
  if ! rm -rf -- "$@" 2> /dev/null; then
    chmod -R u+w -- "$@" 2> /dev/null || true
    rm -rf -- "$@"
  fi
}

# Remove this user's copies that no job in the queue needs.
prune() {
  local path name
  for path in "$code"/*/; do
    path=${path%/} name=${path##*/}
    if [[ ! $name =~ ^[0-9a-f]{40,64}$ || ! -O $path ]] || ! is_own_copy "$path" || is_needed "$path"; then continue; fi
    # Another submission may use the copy right now. Either it has a job by the second check, or it finds the copy
    # missing and cancels its job.
    chmod u+w -- "$path" # a read-only folder cannot be moved
    mv -- "$path" "$work/$name"
    if is_needed "$path"; then
      mv -- "$work/$name" "$path"
      chmod a-w -- "$path"
    else
      printf 'removed %s\n' "$path"
    fi
  done
  # Remove the temporary folders of submissions that were killed.
  find "$code" -maxdepth 1 -name '.new.*' -user "$(id -u)" -mmin +1440 -exec chmod -R u+w {} + -exec rm -rf {} +
}

# Return whether a queued or running job has a folder as its working directory.
is_needed() { # FOLDER
  local folders
  folders=$(squeue --noheader --format=%Z 2>&1) || die "squeue failed, so no more copies are removed: $folders"
  [[ $'\n'$folders$'\n' == *$'\n'"$1"$'\n'* ]]
}
