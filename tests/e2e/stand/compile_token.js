'use strict';

// Compiles a Solidity file with one contract: node compile_token.js SOLC-FOLDER FILE

const [solcPath, file] = process.argv.slice(2);
const solc = require(solcPath);
const output = JSON.parse(solc.compile(JSON.stringify({
  language: 'Solidity',
  sources: {'t.sol': {content: require('fs').readFileSync(file, 'utf8')}},
  settings: {evmVersion: 'paris', outputSelection: {'*': {'*': ['evm.bytecode.object']}}}
})));
const errors = (output.errors || []).filter(e => e.severity === 'error');
if (errors.length)
  throw new Error(errors.map(e => e.formattedMessage).join('\n'));
const [contract] = Object.values(output.contracts['t.sol']);
console.log(JSON.stringify({bytecode: contract.evm.bytecode.object}));
