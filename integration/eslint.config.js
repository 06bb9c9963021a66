// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'eslint/config';
import js from '@eslint/js';
import tseslint from 'typescript-eslint';

const repository = new URL('..', import.meta.url).pathname;

export default defineConfig(
  { ignores: ['**/dist/', '**/build/', '**/node_modules/', 'proto/gen/', '**/*.js'] },
  js.configs.recommended,
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  {
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    languageOptions: {
      parserOptions: { project: `${repository}tsconfig.json`, tsconfigRootDir: repository },
    },
    rules: {
      eqeqeq: 'error',
      'no-restricted-syntax': [
        'error',
        { selector: 'ExportDefaultDeclaration', message: 'Use named exports.' },
      ],
      '@typescript-eslint/explicit-module-boundary-types': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // Bracket access marks a name that is data; the compiler requires it too.
      '@typescript-eslint/dot-notation': 'off',
    },
  },
);
