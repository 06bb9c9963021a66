// SPDX-License-Identifier: Apache-2.0
// The command line of elioctl as data, for what is generated of it: manual and completions.
import type { Argument, Command, Option } from 'commander';

/** What a word of the command line can be completed with. */
export type Completion =
  | { kind: 'choices'; choices: readonly string[] }
  | { kind: 'files' }
  | { kind: 'hosts' }
  | { kind: 'commands' }
  | { kind: 'nothing' };

export interface OptionSpec {
  /** As it is typed: "--output <form>". */
  flags: string;
  /** -c, or --cache; the names without the value. */
  names: readonly string[];
  description: string;
  /** Of the value; undefined: the option has none. */
  value: Completion | undefined;
  /** The name of the value, without brackets. */
  valueName: string;
  repeatable: boolean;
  /** The command does not work without it. */
  mandatory: boolean;
}

export interface ArgumentSpec {
  name: string;
  description: string;
  required: boolean;
  value: Completion;
}

/** A command, or a group of commands. */
export interface FirstWord {
  name: string;
  summary: string;
  isGroup: boolean;
}

export interface CommandSpec {
  name: string;
  summary: string;
  description: string;
  options: readonly OptionSpec[];
  arguments: readonly ArgumentSpec[];
}

const FILE_NAMES = /\b(?:file|path|directory|device)\b/;

function completionOf(name: string, choices: readonly string[] | undefined): Completion {
  if (choices) return { kind: 'choices', choices };
  if (FILE_NAMES.test(name)) return { kind: 'files' };
  return { kind: name.startsWith('host') ? 'hosts' : 'nothing' };
}

function defaultText({ defaultValue, defaultValueDescription }: Option): string {
  if (defaultValueDescription !== undefined) return ` (default: ${defaultValueDescription})`;
  const isPlain = typeof defaultValue === 'string' || typeof defaultValue === 'number';
  return isPlain ? ` (default: ${String(defaultValue)})` : '';
}

function optionSpec(option: Option): OptionSpec {
  const valueName = /[<[](.*)[>\]]/.exec(option.flags)?.[1] ?? '';
  return {
    flags: option.flags,
    names: [option.short, option.long].filter((name) => name !== undefined),
    description: `${option.description}${defaultText(option)}`,
    value: valueName === '' ? undefined : completionOf(valueName, option.argChoices),
    valueName,
    repeatable: option.description.includes('repeated'),
    mandatory: option.mandatory,
  };
}

function argumentSpec(argument: Argument): ArgumentSpec {
  return {
    name: argument.name(),
    description: argument.description,
    required: argument.required,
    value: completionOf(argument.name(), argument.argChoices),
  };
}

/** The options of the program itself, which every command has, and its version. */
export function globalOptionsOf(program: Command): OptionSpec[] {
  return program.createHelp().visibleOptions(program).map(optionSpec);
}

const HELP_ARGUMENT: ArgumentSpec = {
  name: 'command',
  description: 'the command to explain',
  required: false,
  value: { kind: 'commands' },
};

function commandSpec(command: Command, name: string): CommandSpec {
  return {
    name,
    summary: command.summary() || command.description(),
    description: command.description(),
    options: command.options.filter(({ hidden }) => !hidden).map(optionSpec),
    arguments: name === 'help' ? [HELP_ARGUMENT] : command.registeredArguments.map(argumentSpec),
  };
}

/** What can follow the program's name, in the order of the help; `help`, which the library adds, is the last. */
export function firstWordsOf(program: Command): FirstWord[] {
  const commands = program.createHelp().visibleCommands(program);
  return commands.map((command) => ({
    name: command.name(),
    summary: command.summary() || command.description(),
    isGroup: command.commands.length > 0,
  }));
}

/** All commands that do something, in the same order. One of a group has two words: "backups list". */
export function commandsOf(program: Command): CommandSpec[] {
  const commands = program.createHelp().visibleCommands(program);
  return commands.flatMap((command) =>
    command.commands.length === 0
      ? [commandSpec(command, command.name())]
      : command.commands.map((one) => commandSpec(one, `${command.name()} ${one.name()}`)),
  );
}
