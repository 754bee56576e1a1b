# What is submitted is what runs: a commit of the files as they are now, and a read-only copy in which the job runs.
# Sourced by submit.sh.

readonly untracked_limit=50 # MB

# Run git without the user's hooks, fsmonitor or locks. It reads the file $stdin, if that is set.
quiet_git() { # ARGUMENT...
  GIT_OPTIONAL_LOCKS=0 GIT_TERMINAL_PROMPT=0 git \
    -c core.hooksPath=/dev/null -c core.fsmonitor= -c core.safecrlf=false -c core.splitIndex=false \
    -c core.sparseCheckout=false -c index.sparse=false -c advice.addEmbeddedRepo=false "$@" < "${stdin:-/dev/null}"
}

# Run git on an index of submit.sh's own, for the files of a work tree, in a folder of it.
index_git() { # FOLDER WORKTREE INDEX ARGUMENT...
  GIT_DIR=$git_folder GIT_WORK_TREE=$2 GIT_INDEX_FILE=$3 quiet_git -C "$1" "${@:4}" 2> "$work/said"
}

# What this script sets -------------------------------------------------------------------------------------------------
#
#   commit  what is submitted
#   dirty   not empty where that differs from HEAD
#   place   the folder in which the jobs run
#   tree    where the repository's root is until `publish`, and after that

use_working_tree() {
  local message
  place=$root tree=$root dirty=''
  find_repository
  find_package
  commit=$head
  message=$(quiet_git -C "$folder" status --porcelain --untracked-files=all -- "${paths[@]}" 2> "$work/said") \
    || die "$(< "$work/said")"
  if [[ $message ]]; then dirty=yes; fi
}

pin() {
  local copy
  find_repository
  find_package
  refuse_ignored scripts ${package_path:+"$package_path"}
  refuse_large_untracked
  list_sparse
  copy=$work/top
  stage_files
  place=$code/$commit
  if [[ -e $place ]]; then
    tree=$place
    is_own_copy "$place" || die "$place is not a copy of this experiment: give slurm/code a folder of its own"
  else
    tree=$copy${inner:+/$inner}
    copy_files "$copy${outer:+/$outer}"
    restage_copy "$copy${outer:+/$outer}"
    place=$code/$commit
    write_metadata
  fi
  dirty=''
  if [[ $commit != "$head" ]]; then dirty=yes; fi
  warn_ignored
  warn_large_results
}

# Set `head`, `git_folder`, `repository`, and where the root and the repository are in each other: `inner` and `outer`.
# The repository may be the monorepo, or its experiments/ may be a submodule; or the monorepo is a folder of one.
find_repository() {
  local prefix
  head=$(quiet_git -C "$folder" rev-parse --verify 'HEAD^{commit}' 2> "$work/said") \
    || die "no commit to record: $(< "$work/said")"
  git_folder=$(quiet_git -C "$folder" rev-parse --absolute-git-dir)
  repository=$(quiet_git -C "$folder" rev-parse --show-toplevel)
  prefix=$(quiet_git -C "$folder" rev-parse --show-prefix)
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

# Set `package_path`, and `paths`, the pathspecs of what is pinned: the experiment and the package, without what runs write, and without
# secrets, since a run finds the one .env by a link. They are relative, so that no character of a path is a pattern.
find_package() {
  local path
  package_path=''
  paths=(. ':(exclude)results' ':(exclude)slurm' ':(exclude,glob)**/.env')
  if [[ ! $package ]]; then return; fi
  for path in "$package" "src/$package"; do
    if [[ ! -d $root/$path ]]; then continue; fi
    if [[ ! ${request[live]} ]]; then
      [[ ! -L $root/$path ]] || die "the package $root/$path is a link, so it cannot be pinned: use --live"
      [[ $(quiet_git -C "$root/$path" rev-parse --show-toplevel 2> /dev/null) == "$repository" ]] \
        || die "the package $root/$path is in another repository, so it cannot be pinned: use --live"
    elif [[ -L $root/$path || $(quiet_git -C "$root/$path" rev-parse --show-toplevel 2> /dev/null) != "$repository" ]]; then
      return
    fi
    package_path=../../$path
    paths+=("$package_path" ":(exclude,glob)$package_path/**/.env")
    return
  done
  [[ ${request[live]} ]] \
    || die "the package $package is neither $root/$package nor in $root/src, so it cannot be pinned: use --live"
}

# Git lists no file of an ignored folder, but those that somebody added by force.
refuse_ignored() { # PATH...
  local path rule
  for path; do
    if [[ $(quiet_git -C "$folder" ls-files -- "$path" | head -c 1) ]]; then continue; fi
    rule=$(quiet_git -C "$folder" check-ignore --verbose -- "$path" 2> /dev/null) || continue
    die "git ignores $(realpath -s -- "$folder/$path") by ${rule%%$'\t'*}, so it cannot be pinned: remove that rule, or use --live"
  done
}

refuse_large_untracked() {
  local size largest
  # The sum of the sizes in MB, and the largest file.
  read -r size largest < <(cd "$folder" && quiet_git ls-files -z --others --exclude-standard -- "${paths[@]}" \
    | xargs -0 -r stat --format='%s %n' -- 2> /dev/null \
    | awk '{sum += $1} $1 > most {most = $1; name = substr($0, index($0, " ") + 1)} END {printf "%d %s\n", sum / 1000000, name}')
  if ((size > untracked_limit)); then
    die "$size MB of files that git does not track, like $folder/$largest: move them to DATA_ROOT, or ignore them"
  fi
}

# Results are committed by people: what is too large for that is named in time.
warn_large_results() {
  local size name
  while read -r size name; do
    warn "results are committed, and $experiment/$name has $((size / 1000000)) MB: move it to DATA_ROOT, or ignore it"
  done < <(cd "$folder" && quiet_git ls-files -z --others --exclude-standard -- results \
    | xargs -0 -r stat --format='%s %n' -- 2> /dev/null | awk -v limit="$untracked_limit" '$1 > limit * 1000000')
}

# Write to $work/absent what a sparse checkout leaves out on purpose, since nobody has deleted that.
list_sparse() {
  local file
  quiet_git -C "$folder" ls-files -z -t -- "${paths[@]}" | sed -z -n 's/^S //p' > "$work/sparse"
  (
    cd "$folder"
    while IFS= read -r -d '' file; do
      [[ -e $file || -L $file ]] || printf '%s\0' "$file"
    done
  ) < "$work/sparse" > "$work/absent"
}

# Put the files that are there now into an index of HEAD, write to $work/files which they are, and set `commit`.
# `git add` would fail for an ignored path, which each exclusion is in many a repository.
stage_files() {
  local nested
  index_git "$folder" "$repository" "$work/index" read-tree "$head" || die "$(< "$work/said")"
  stdin=$work/absent index_git "$folder" "$repository" "$work/index" update-index -z --skip-worktree --stdin \
    || die "$(< "$work/said")"
  index_git "$folder" "$repository" "$work/index" \
    ls-files -z -t --full-name --cached --others --exclude-standard -- "${paths[@]}" > "$work/listed" || die "$(< "$work/said")"
  sed -z -n 's/^[^S] //p' "$work/listed" > "$work/files"
  nested=$(grep -z -m 1 '/$' "$work/files" | tr -d '\0') || true
  if [[ ! $nested ]]; then
    nested=$(index_git "$folder" "$repository" "$work/index" ls-files --stage -- "${paths[@]}" | sed -n 's/^160000 [^\t]*\t//p')
  fi
  [[ ! $nested ]] || die "$nested is another repository, so it cannot be pinned: use --live"
  add_to_index "$repository" "$work/index"
}

# A file may have been saved while it was copied: the commit is of what was copied.
restage_copy() { # WORKTREE
  cp -- "$work/index" "$work/copied"
  add_to_index "$1" "$work/copied"
}

# Put $work/files into an index as they are in a work tree, and set `commit` to what it then holds.
add_to_index() { # WORKTREE INDEX
  local object date
  stdin=$work/files index_git "$1" "$1" "$2" update-index -z --add --remove --stdin || die "$(< "$work/said")"
  object=$(index_git "$1" "$1" "$2" write-tree --missing-ok) || die "$(< "$work/said")"
  commit=$head
  if [[ $object == "$(quiet_git -C "$folder" rev-parse "$head^{tree}")" ]]; then return; fi
  # Nothing of it depends on the moment or the person: equal trees are one commit.
  date=$(quiet_git -C "$folder" show --no-patch --format=%cI "$head")
  commit=$(GIT_AUTHOR_NAME=submit.sh GIT_AUTHOR_EMAIL=submit.sh GIT_AUTHOR_DATE=$date \
    GIT_COMMITTER_NAME=submit.sh GIT_COMMITTER_EMAIL=submit.sh GIT_COMMITTER_DATE=$date \
    index_git "$1" "$1" "$2" -c i18n.commitEncoding=UTF-8 commit-tree "$object" -p "$head" -m "Submit $experiment") \
    || die "$(< "$work/said")"
}

# Copy what is staged byte for byte, which a checkout is not where git converts files. Of a file's mode only the
# execute bit matters: an access control list could not be written on each disk, nor could a hard link.
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

# State in the copy what it is, and link what is elsewhere: the .env that the experiment itself would find, and the
# folders that Hydra writes to in scripts without conf/runtime.yaml, relative to the directory of the job.
write_metadata() {
  local env=$scripts differs=true
  while [[ $env && ! -f $env/.env ]]; do env=${env%/*}; done
  if [[ ! -f $env/.env ]]; then env=$root; fi
  ln -s -- "$env/.env" "$tree/.env"
  ln -s -- "$root/outputs" "$root/multirun" "$tree/"
  if [[ $commit == "$head" ]]; then differs=false; fi
  { printf '{"commit": "%s", "dirty": %s, "experiment": "%s"}\n' "$commit" "$differs" "${folder//\"/\\\"}" \
    > "$tree/submitted.json"; } 2> /dev/null || die "$tree/submitted.json cannot be written"
}

is_own_copy() { # FOLDER
  grep -qF "\"experiment\": \"${folder//\"/\\\"}\"" "$1/submitted.json" 2> /dev/null
}

warn_ignored() {
  local files
  files=$(quiet_git -C "$folder" ls-files --full-name --others --ignored --exclude-standard -- "${paths[@]}" \
    | { grep -E '[.](py|so)"?$' || true; })
  [[ ! $files ]] || warn "not submitted, since git ignores it: ${files//$'\n'/ }"
  # A link may lead out of what is pinned.
  files=$(cd "$tree" && find . -mindepth 2 -xtype l -printf '%P ')
  [[ ! $files ]] || warn "not submitted, since it is a link to elsewhere: ${files% }"
}

# Give the copy its place, and the commit a name, by which git keeps it.
publish() {
  local message
  message=$(quiet_git -C "$folder" -c core.filesRefLockTimeout=10000 update-ref "refs/submitted/$commit" "$commit" 2>&1) \
    || die "$message"
  if [[ $tree == "$place" ]]; then return; fi
  chmod -R a-w -- "$tree" # no accident changes what a job will run
  chmod u+w -- "$tree"
  # Another submission may have moved its own there first, and it is the same.
  message=$(mv --no-target-directory -- "$tree" "$place" 2>&1) || [[ -e $place/submitted.json ]] || die "$message"
  if [[ ! -e $tree ]]; then chmod a-w -- "$place"; fi
  tree=$place
}

# Remove a folder, though it may be read-only.
remove() { # FOLDER
  chmod -R u+w -- "$1" 2> /dev/null || true
  rm -rf -- "$1"
}

# Remove the copies that no job needs. Those of other people stay.
prune() {
  local path name
  for path in "$code"/*/; do
    path=${path%/} name=${path##*/}
    if [[ ! $name =~ ^[0-9a-f]{40,64}$ || ! -O $path ]] || ! is_own_copy "$path" || is_needed "$path"; then continue; fi
    # Somebody may submit it at this moment. Who finds it gone cancels; who did not has a job by now.
    chmod u+w -- "$path" # a read-only folder cannot be moved
    mv -- "$path" "$work/$name"
    if is_needed "$path"; then
      mv -- "$work/$name" "$path"
      chmod a-w -- "$path"
    else
      printf 'removed %s\n' "$path"
    fi
  done
  # What a submission left that was killed.
  find "$code" -maxdepth 1 -name '.new.*' -user "$(id -u)" -mmin +1440 -exec chmod -R u+w {} + -exec rm -rf {} +
}

# Whether a job is queued or runs in a folder.
is_needed() { # FOLDER
  local folders
  folders=$(squeue --noheader --format=%Z 2>&1) || die "squeue failed, so nothing more is removed: $folders"
  [[ $'\n'$folders$'\n' == *$'\n'"$1"$'\n'* ]]
}
