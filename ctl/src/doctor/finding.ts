// SPDX-License-Identifier: Apache-2.0

/** One thing that was looked at; `remedy` is empty when nothing is to be done. */
export interface Finding {
  verdict: 'ok' | 'note' | 'wrong';
  subject: string;
  message: string;
  remedy: string;
}

export function ok(subject: string, message: string): Finding {
  return { verdict: 'ok', subject, message, remedy: '' };
}

/** What may do harm, or may do it later. */
export function note(subject: string, message: string, remedy: string): Finding {
  return { verdict: 'note', subject, message, remedy };
}

/** What keeps something from working. */
export function wrong(subject: string, message: string, remedy: string): Finding {
  return { verdict: 'wrong', subject, message, remedy };
}
