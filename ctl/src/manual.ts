// SPDX-License-Identifier: Apache-2.0
// The manual page elioctl(8), in man(7), made from the command tree.
import type { Command } from 'commander';
import {
  commandsOf,
  globalOptionsOf,
  type ArgumentSpec,
  type CommandSpec,
  type OptionSpec,
} from './command-tree.js';
import { EXIT, EXIT_MEANINGS } from './errors.js';

/** Text as roff takes it: a hyphen that can be copied, and no line that begins like a request. */
function roff(text: string): string {
  return text
    .replace(/\\/g, '\\e')
    .replace(/-/g, '\\-')
    .replace(/^([.'])/gm, '\\&$1');
}

const LINE_LENGTH = 72;

/** A paragraph: its line ends mean nothing, but a source with long lines is hard to read. */
function paragraph(text: string): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + word.length >= LINE_LENGTH) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return roff([...lines, line].join('\n'));
}

const bold = (text: string): string => `\\fB${roff(text)}\\fR`;
const italic = (text: string): string => `\\fI${roff(text)}\\fR`;

/** A term and what it means. */
const entry = (term: string, meaning: string): string => `.TP\n${term}\n${paragraph(meaning)}`;

/** Text that is shown as it is. */
const literal = (text: string): string =>
  ['.PP', '.in +4n', '.EX', roff(text.trimEnd()), '.EE', '.in'].join('\n');

/** "--output <form>" with the names bold and the value in italics. */
function flagsText({ names, value, valueName }: OptionSpec): string {
  const text = names.map(bold).join(', ');
  return value ? `${text} ${italic(`<${valueName}>`)}` : text;
}

const optionEntry = (option: OptionSpec): string => entry(flagsText(option), option.description);

const argumentEntry = ({ name, description }: ArgumentSpec): string =>
  entry(italic(`<${name}>`), description);

function synopsis({ name, options, arguments: args }: CommandSpec): string {
  const parts = options.map((option) => {
    const text = flagsText({ ...option, names: option.names.slice(-1) });
    return option.mandatory ? text : `[${text}]`;
  });
  const words = args.map(({ name: word, required }) => {
    const text = italic(`<${word}>`);
    return required ? text : `[${text}]`;
  });
  return `${bold(`elioctl ${name}`)} ${[...parts, ...words].join(' ')}`.trimEnd();
}

function sentence(text: string): string {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.?!]$/.test(start) ? start : `${start}.`;
}

function commandSection(command: CommandSpec): string {
  const entries = [...command.arguments.map(argumentEntry), ...command.options.map(optionEntry)];
  return [
    `.SS ${roff(command.name)}`,
    synopsis(command),
    '.PP',
    paragraph(sentence(command.description)),
    ...entries,
  ].join('\n');
}

const ENVIRONMENT: readonly (readonly [string, string])[] = [
  ['ELIO_SOCKET', "the local agent's socket"],
  ['ELIO_CA, ELIO_CERT, ELIO_KEY', 'files of certificates and key for other hosts'],
  ['NO_COLOR', 'nothing is coloured, if it is set'],
];

const FILES: readonly (readonly [string, string])[] = [
  ['/run/elio/agent.sock', 'where the agent on this host listens'],
  ['~/.config/elio/config.yaml', 'the keys ca, cert and key: files for other hosts'],
  ['/dev/elastio-snap<minor>', 'the image of a snapshot'],
  ['/proc/elastio-snap-info', 'what the module knows of its snapshots'],
];

const EXAMPLES: readonly (readonly [string, string])[] = [
  [
    'A backup in full; and, with the same words, what has changed since:',
    'elioctl backup /dev/vdb1 /backup/vdb1.img',
  ],
  [
    'The same as a set, in which each state of a week can be had again (/backup/vdb1@3 is the third):',
    `elioctl backup /dev/vdb1 /backup/vdb1/
elioctl backups list /backup/vdb1
elioctl backups prune --keep-days 7 --yes /backup/vdb1
elioctl restore /backup/vdb1@3 /dev/vdc1`,
  ],
  [
    'All hosts of an inventory, each device into a set of its own below /backup:',
    'elioctl --inventory fleet.yaml fleet backup --dest /backup --bandwidth 50M',
  ],
  [
    'Step by step, as backup software of old does it:',
    `elioctl setup-snapshot /dev/vdb1 /srv/cow1 0
dd if=/dev/elastio-snap0 of=/backup/vdb1.img bs=1M
elioctl transition-to-incremental 0
elioctl transition-to-snapshot /srv/cow2 0
update-img /dev/elastio-snap0 /srv/cow1 /backup/vdb1.img
elioctl destroy 0`,
  ],
  [
    'What would be done on all databases, and what there is on twelve hosts:',
    `elioctl --inventory fleet.yaml --group databases destroy --dry-run 0
elioctl --host 'db[01:12].example.com' list`,
  ],
];

/** The page. `inventory` is the sample of an inventory, `date` that of the build. */
export function manualPage(program: Command, inventory: string, date: Date): string {
  const statuses = Object.entries(EXIT_MEANINGS).map(([name, meaning]) =>
    entry(bold(String(EXIT[name as keyof typeof EXIT])), meaning),
  );
  const version = program.version() ?? '';
  const parts = [
    '.\\" SPDX-License-Identifier: Apache-2.0',
    `.TH ELIOCTL 8 ${date.toISOString().slice(0, 10)} "elio\\-snap ${version}" "System Administration"`,
    '.SH NAME',
    'elioctl \\- snapshots, change tracking and backups of block devices',
    '.SH SYNOPSIS',
    `${bold('elioctl')} [${italic('options')}] ${italic('command')} [${italic('arguments')}]`,
    '.SH DESCRIPTION',
    paragraph(
      `elioctl talks to the agent on this host, or over TLS to those on other hosts. Block devices, COW files and restore targets are paths of that host; backups are files, or sets of files in a directory, of the machine on which elioctl runs. Numbers are decimal. Sizes are MiB, or have a suffix K, M or G (powers of 1024).`,
    ),
    '.PP',
    paragraph(
      `With several hosts a command works on a bounded number at a time and prints a result for each. Those that failed follow on stderr, a line each, and at the end those that could not be reached.`,
    ),
    '.PP',
    paragraph(
      `update-img <snapshot device> <cow file> <image> needs no agent: it copies the blocks that an old COW file names from the image device to an image of the snapshot before.`,
    ),
    '.SH OPTIONS',
    ...globalOptionsOf(program).map(optionEntry),
    '.SH COMMANDS',
    ...commandsOf(program).map(commandSection),
    '.SH INVENTORY',
    paragraph('The hosts of a fleet in YAML:'),
    literal(inventory),
    '.SH EXIT STATUS',
    ...statuses,
    '.SH ENVIRONMENT',
    ...ENVIRONMENT.map(([name, meaning]) => entry(bold(name), meaning)),
    '.SH FILES',
    ...FILES.map(([name, meaning]) => entry(italic(name), meaning)),
    '.SH EXAMPLES',
    ...EXAMPLES.flatMap(([what, lines], i) => [
      ...(i > 0 ? ['.PP'] : []),
      paragraph(what),
      literal(lines),
    ]),
    '.SH SEE ALSO',
    `${bold('dd')}(1), ${bold('lsblk')}(8), ${bold('modprobe')}(8), ${bold('qemu-img')}(1), ${bold('qemu-nbd')}(8)`,
  ];
  return `${parts.join('\n')}\n`;
}
