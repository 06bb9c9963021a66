// SPDX-License-Identifier: Apache-2.0
// What makes shells complete elioctl: scripts that hold the whole command tree and call nothing.
import type { Command } from 'commander';
import {
  commandsOf,
  firstWordsOf,
  globalOptionsOf,
  type CommandSpec,
  type Completion,
  type FirstWord,
  type OptionSpec,
} from './command-tree.js';

export type Shell = 'bash' | 'zsh' | 'fish';

interface Tree {
  globals: readonly OptionSpec[];
  firstWords: readonly FirstWord[];
  commands: readonly CommandSpec[];
}

export function completionScript(program: Command, shell: Shell): string {
  const tree = {
    globals: globalOptionsOf(program),
    firstWords: firstWordsOf(program),
    commands: commandsOf(program),
  };
  return { bash: bashScript, zsh: zshScript, fish: fishScript }[shell](tree);
}

const namesOf = (options: readonly OptionSpec[]): string[] => options.flatMap(({ names }) => names);

const commandNames = ({ firstWords }: Tree): string => firstWords.map(({ name }) => name).join(' ');

const groupNames = ({ firstWords }: Tree): string[] =>
  firstWords.filter(({ isGroup }) => isGroup).map(({ name }) => name);

/** The commands of a group, and their second words. */
function commandsIn(group: string, { commands }: Tree): { word: string; command: CommandSpec }[] {
  return commands
    .filter(({ name }) => name.startsWith(`${group} `))
    .map((command) => ({ word: command.name.slice(group.length + 1), command }));
}

/** Of all options of all commands: those that go by the same name have the same values. */
function valueOptions(tree: Tree): OptionSpec[] {
  const all = [...tree.globals, ...tree.commands.flatMap(({ options }) => options)];
  const seen = new Set<string>();
  return all.filter(({ names, value }) => {
    const id = names.join();
    if (!value || seen.has(id)) return false;
    seen.add(id);
    return true;
  });
}

// bash

function bashAction(value: Completion, tree: Tree): string {
  switch (value.kind) {
    case 'choices':
      return `COMPREPLY=($(compgen -W '${value.choices.join(' ')}' -- "$cur"))`;
    case 'commands':
      return `COMPREPLY=($(compgen -W '${commandNames(tree)}' -- "$cur"))`;
    case 'files':
      return 'compopt -o default';
    case 'hosts':
      return 'COMPREPLY=($(compgen -A hostname -- "$cur"))';
    case 'nothing':
      return ':';
  }
}

/** The commands' positions are counted from 0. */
function bashArguments({ name, arguments: args }: CommandSpec, tree: Tree): string[] {
  return args
    .map((argument, i) => ({ pattern: `'${name} ${String(i)}'`, value: argument.value }))
    .filter(({ value }) => value.kind !== 'nothing')
    .map(({ pattern, value }) => `    ${pattern}) ${bashAction(value, tree)} ;;`);
}

function bashScript(tree: Tree): string {
  const withValue = valueOptions(tree);
  const valueNames = namesOf(withValue).join('|');
  const values = withValue.map(
    ({ names, value }) =>
      `    ${names.join('|')}) ${value ? bashAction(value, tree) : ':'}; return ;;`,
  );
  const options = tree.commands.map(
    (command) => `      '${command.name}') options+=' ${namesOf(command.options).join(' ')}' ;;`,
  );
  const groups = groupNames(tree);
  const groupWords = groups.map((group) => {
    const words = commandsIn(group, tree).map(({ word }) => word);
    return `    ${group}) COMPREPLY=($(compgen -W '${words.join(' ')}' -- "$cur")); return ;;`;
  });
  return `# bash completion for elioctl; made from its command tree.
_elioctl() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]}
  local command= position=0 options i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
      ${valueNames}) ((i++)) ;;
      -*) ;;
      *)
        case $command in
          '') command=\${COMP_WORDS[i]} ;;
          ${groups.join('|')}) command+=" \${COMP_WORDS[i]}" ;;
          *) ((position++)) ;;
        esac
        ;;
    esac
  done
  case $prev in
${values.join('\n')}
  esac
  if [[ $cur == -* ]]; then
    options='${namesOf(tree.globals).join(' ')}'
    case $command in
${options.join('\n')}
    esac
    COMPREPLY=($(compgen -W "$options" -- "$cur"))
    return
  fi
  if [ -z "$command" ]; then
    COMPREPLY=($(compgen -W '${commandNames(tree)}' -- "$cur"))
    return
  fi
  case $command in
${groupWords.join('\n')}
  esac
  case "$command $position" in
${tree.commands.flatMap((command) => bashArguments(command, tree)).join('\n')}
  esac
}
complete -F _elioctl elioctl
`;
}

// zsh

const singleQuoted = (text: string): string => `'${text.replace(/'/g, "'\\''")}'`;

/** In a specification of _arguments these end a part of it. */
const zshText = (text: string): string => text.replace(/[[\]:\\]/g, '\\$&');

function zshAction(value: Completion): string {
  switch (value.kind) {
    case 'choices':
      return `(${value.choices.join(' ')})`;
    case 'commands':
      return '->command';
    case 'files':
      return '_files';
    case 'hosts':
      return '_hosts';
    case 'nothing':
      return ' ';
  }
}

function zshOption(option: OptionSpec): string[] {
  const { names, description, value, valueName, repeatable } = option;
  const tail = value ? `:${zshText(valueName)}:${zshAction(value)}` : '';
  return names.map((name) => {
    const before = repeatable ? '*' : names.length > 1 ? `(${names.join(' ')})` : '';
    return singleQuoted(`${before}${name}[${zshText(description)}]${tail}`);
  });
}

function zshCommand(command: CommandSpec, pattern: string): string {
  const args = command.arguments.map(({ name, required, value }, i) =>
    singleQuoted(`${String(i + 1)}:${required ? '' : ':'}${zshText(name)}:${zshAction(value)}`),
  );
  const specs = ['$globals', ...command.options.flatMap(zshOption), ...args];
  return `        ${pattern})\n          _arguments -C \\\n            ${specs.join(' \\\n            ')}\n          ;;`;
}

/** A word and what it means, as _describe takes it. */
const zshDescribed = (name: string, summary: string): string =>
  singleQuoted(`${name}:${summary.replace(/:/g, '\\:')}`);

/** A group: its second word is completed like the first one of the line. */
function zshGroup(group: string, tree: Tree): string {
  const commands = commandsIn(group, tree);
  const words = commands.map(({ word, command }) => zshDescribed(word, command.summary));
  return `        ${group})
          commands=(
            ${words.join('\n            ')}
          )
          _arguments -C $globals '1:command:->command' '*::argument:->argument'
          if [[ $state == argument ]]; then
            state=
            case "${group} $words[1]" in
${commands.map(({ command }) => zshCommand(command, `'${command.name}'`)).join('\n')}
            esac
          fi
          ;;`;
}

function zshScript(tree: Tree): string {
  const { globals, firstWords, commands } = tree;
  const described = firstWords.map(({ name, summary }) => zshDescribed(name, summary));
  const cases = firstWords.map(({ name, isGroup }) => {
    const command = commands.find((one) => one.name === name);
    return isGroup || !command ? zshGroup(name, tree) : zshCommand(command, name);
  });
  return `#compdef elioctl
# zsh completion for elioctl; made from its command tree.
_elioctl() {
  local curcontext=$curcontext context state state_descr line
  local -A opt_args
  local -a commands globals
  commands=(
    ${described.join('\n    ')}
  )
  globals=(
    ${globals.flatMap(zshOption).join('\n    ')}
  )
  _arguments -C $globals '1:command:->command' '*::argument:->argument'
  case $state in
    command)
      _describe -t commands command commands
      ;;
    argument)
      state=
      case $words[1] in
${cases.join('\n')}
      esac
      [[ $state != command ]] || _describe -t commands command commands
      ;;
  esac
}
if [ "$funcstack[1]" = _elioctl ]; then
  _elioctl "$@"
else
  compdef _elioctl elioctl
fi
`;
}

// fish

/** In single quotes fish knows two escapes. */
const fishQuoted = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;

function fishValue(value: Completion, tree: Tree): string {
  switch (value.kind) {
    case 'choices':
      return `-x -a ${fishQuoted(value.choices.join(' '))}`;
    case 'commands':
      return `-x -a ${fishQuoted(commandNames(tree))}`;
    case 'files':
      return '-r -F';
    case 'hosts':
      return "-x -a '(__fish_print_hostnames)'";
    case 'nothing':
      return '-x';
  }
}

function fishOption(option: OptionSpec, condition: string, tree: Tree): string {
  const names = option.names.map((name) =>
    name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`,
  );
  const value = option.value ? ` ${fishValue(option.value, tree)}` : '';
  return `complete -c elioctl${condition} ${names.join(' ')}${value} -d ${fishQuoted(option.description)}`;
}

function fishCommand(command: CommandSpec, tree: Tree): string[] {
  const condition = ` -n '__elioctl_at "${command.name}"'`;
  const kinds = command.arguments.map(({ value }) => value);
  const words = kinds.find(({ kind }) => kind === 'choices' || kind === 'commands');
  const positional = kinds.some(({ kind }) => kind === 'files')
    ? [`complete -c elioctl${condition} -F`]
    : words
      ? [`complete -c elioctl${condition} ${fishValue(words, tree)}`]
      : [];
  return [...command.options.map((option) => fishOption(option, condition, tree)), ...positional];
}

function fishScript(tree: Tree): string {
  const lines = [
    ...tree.globals.map((option) => fishOption(option, '', tree)),
    ...tree.firstWords.map(
      ({ name, summary }) =>
        `complete -c elioctl -n '__elioctl_at ""' -a ${name} -d ${fishQuoted(summary)}`,
    ),
    ...groupNames(tree).flatMap((group) =>
      commandsIn(group, tree).map(
        ({ word, command }) =>
          `complete -c elioctl -n '__elioctl_at ${group}' -a ${word} -d ${fishQuoted(command.summary)}`,
      ),
    ),
    ...tree.commands.flatMap((command) => fishCommand(command, tree)),
  ];
  return `# fish completion for elioctl; made from its command tree.

# Is that the command of the line? Empty: has it none yet?
function __elioctl_at -a wanted
    set -l words (commandline -opc)
    set -l command
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case ${namesOf(valueOptions(tree)).join(' ')}
                set -e words[1]
            case '-*'
            case '*'
                set -a command $words[1]
                contains -- "$command" ${groupNames(tree).join(' ')}
                or break
        end
        set -e words[1]
    end
    test "$command" = "$wanted"
end

complete -c elioctl -f
${lines.join('\n')}
`;
}
