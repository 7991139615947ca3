//! How deeply a statement nests, before anything walks through it.
//!
//! The parser limits parentheses, but `a OR b OR c …` nests once more with each operator, and what walks through the
//! tree afterwards calls itself as often: some thousands overflow a thread's stack, which ends the process. An estimate
//! from the tokens, never less than the depth. Pure.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// So many operators may follow each other. Stacks of [`STACK_BYTES`] hold several times as many.
const MAX_DEPTH: usize = 500;

/// The least stack of a thread that plans or runs queries, in bytes.
pub const STACK_BYTES: usize = 16 << 20;

/// Why a statement is not looked at, if it nests too deeply. One that has no tokens is left to the parser.
pub(crate) fn too_deep(sql: &str) -> Option<String> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().ok()?;
    let depth = depth(&tokens);
    (depth > MAX_DEPTH).then(|| {
        format!(
            "about {depth} operators, joins or set operations nest in each other; {MAX_DEPTH} may"
        )
    })
}

fn depth(tokens: &[Token]) -> usize {
    // Operators since the last comma or clause, for each parenthesis that is open.
    let mut open = vec![0_usize];
    let (mut inside, mut tables, mut deepest) = (0, 0, 0);
    for token in tokens {
        let Some(here) = open.last_mut() else {
            break;
        };
        match token {
            Token::Whitespace(_)
            | Token::Period
            | Token::Number(..)
            | Token::SingleQuotedString(_) => {}
            Token::LParen | Token::LBracket => open.push(0),
            Token::RParen | Token::RBracket => {
                inside -= *here;
                open.pop();
            }
            Token::Comma | Token::SemiColon => inside -= std::mem::take(here),
            Token::Word(word) => match word.keyword {
                Keyword::JOIN | Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT => {
                    tables += 1
                }
                Keyword::SELECT
                | Keyword::FROM
                | Keyword::WHERE
                | Keyword::GROUP
                | Keyword::HAVING
                | Keyword::ORDER
                | Keyword::ON
                | Keyword::WHEN
                | Keyword::THEN
                | Keyword::ELSE => inside -= std::mem::take(here),
                Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::DIV
                | Keyword::IS
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::AT
                | Keyword::COLLATE => {
                    *here += 1;
                    inside += 1;
                }
                _ => {}
            },
            _ => {
                *here += 1;
                inside += 1;
            }
        }
        deepest = deepest.max(inside + tables + open.len());
    }
    deepest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn depth_of(sql: &str) -> usize {
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap();
        depth(&tokens)
    }

    #[test]
    fn what_lies_side_by_side_is_not_deep() {
        let list = vec!["1"; 100_000].join(", ");
        assert_eq!(
            too_deep(&format!("SELECT a FROM t WHERE a IN ({list})")),
            None
        );
        let rows = vec!["(1, -2)"; 50_000].join(", ");
        assert_eq!(too_deep(&format!("VALUES {rows}")), None);
        let cases = "WHEN a = 1 AND b = 2 THEN 1 + 2 ".repeat(10_000);
        assert_eq!(too_deep(&format!("SELECT CASE {cases} END")), None);
        assert_eq!(too_deep("this is ' no statement"), None);
    }

    #[test]
    fn what_follows_each_other_is() {
        for (one, between) in [("a", " OR "), ("1", " - "), ("SELECT 1", " UNION ALL ")] {
            let chain = |count| format!("SELECT {}", vec![one; count].join(between));
            assert_eq!(too_deep(&chain(400)), None, "{between}");
            let error = too_deep(&chain(2_000)).unwrap();
            assert!(error.contains("500 may"), "{error}");
        }
        let joins = " JOIN t USING (a)".repeat(1_000);
        assert!(too_deep(&format!("SELECT * FROM t {joins}")).is_some());
        // Each of the parentheses is not deep, all of them are.
        let inner = format!("(1 {} + ", "+ 1 ".repeat(100));
        assert!(depth_of(&inner.repeat(20)) > 2_000);
        assert_eq!(depth_of(")))))"), 0);
    }
}
