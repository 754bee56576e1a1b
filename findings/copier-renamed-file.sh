#!/usr/bin/env bash
# Copier 9.19.1: `copier update` drops the edits of a file that the template has renamed.
#
# Guess: the edits are in the file under its new name, or there is a conflict, as after a merge in git.
# Seen:  the old file is deleted with its edits, and the new file has none. Exit code 0, no conflict, no .rej file. Only
#        the history of git still has the edits.
# Here:  what people edit is excluded from updates. `experiments update` skips an experiment if a release deletes a file
#        of the template that was edited.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
  copier==9.19.1 2> /dev/null
export GIT_CONFIG_GLOBAL=$folder/gitconfig PYTHONWARNINGS=ignore
printf '[user]\nname = Ada\nemail = ada@example.org\n' > "$GIT_CONFIG_GLOBAL"
mkdir "$folder/template" "$folder/project"

release() { git add . && git commit --quiet --message "$1" && git tag "$1"; }

cd "$folder/template"
git init --quiet
echo '{{ _copier_answers | to_yaml }}' > '{{ _copier_conf.answers_file }}.jinja'
seq 20 > old.txt
release v1
git mv old.txt new.txt
release v2

cd "$folder/project"
git init --quiet
"$folder/env/bin/copier" copy --quiet --defaults --vcs-ref=v1 "$folder/template" .
git add .
git commit --quiet --message "Copy"
sed -i 's/^10$/my edit/' old.txt
git commit --quiet --all --message "Edit"
code=0
"$folder/env/bin/copier" update --quiet --defaults || code=$?
files=$(echo *)
edits=$(grep --recursive --files-with-matches --exclude-dir=.git "my edit" . || true)
version=$("$folder/env/bin/copier" --version)
echo "$version: exit code $code; files: $files; files with the edit: ${edits:-none}"
[[ $code == 0 && $files == new.txt && -z $edits ]] || { echo "this has changed" >&2; exit 1; }
